"""`cnnc import-weights`: weights that others trained, as a network's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_block, echo_json
from cnnc.cli.options.common import OUTPUT_FILE, format_option, spec_options
from cnnc.cli.options.model import refuse
from cnnc.diagnostics import CnnError
from cnnc.files import require_apart
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.net import Net
    from cnnc.weights.importing.import_weights import Imported
    from cnnc.weights.importing.layers.file_layers import Source
    from cnnc.weights.importing.verify import Verified

_SHOWN = 8

_FILES = """\
\b
Files:
  safetensors, as timm, Hugging Face and torchvision name their layers; cnnc's own
  .pt, .pth, .bin    a PyTorch state dict; code within does not run
  .keras, .h5        Keras's files
  .npz               arrays by name
  .tflite            float, half precision, int8, uint8; folded batch norms
  a folder           an Orbax checkpoint, or raw float32 in Caffe's order: conv1.weights, conv1.biases, ...

Layers are matched by name, form, connections and order. What stays open is an error that shows the candidates;
a file of lines `layer of FILE = layer of SPEC` settles it (--map).
"""


@click.command("import-weights", epilog=_FILES)
@spec_options
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=OUTPUT_FILE, metavar="OUT", required=True, help="A .safetensors file.")
@click.option("--map", "mapping", type=click.Path(path_type=Path), metavar="FILE", help="Lines `theirs = ours`.")
@click.option("--partial", is_flag=True, help="Leave what FILE lacks at its first value, and what is too many out.")
@click.option("--drop-class", type=click.IntRange(min=0), metavar="N", help="Leave out class N of FILE, 0-based.")
@click.option(
    "--layout", type=click.Choice(["OIHW", "HWIO"]), help="Where kernels have outputs, if FILE leaves it open."
)
@click.option("--copy", metavar="NAME", help="Of several copies of the weights in FILE the one to take: teacher, ema.")
@click.option("--trust-order", is_flag=True, help="Take layers that nothing tells apart in FILE's order.")
@click.option("--seed", type=click.IntRange(min=0, max=2**31 - 1), default=0, metavar="N", help="Of first values.")
@click.option(
    "--verify",
    "pictures",
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    multiple=True,
    help="Run FILE and the network side by side on this picture, and write nothing unless they agree; may be repeated.",
)
@click.option(
    "--verify-with",
    "program",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="What to run for a FILE of weights alone: the same network as .tflite, .keras, TorchScript or .pt2.",
)
@click.option(
    "--verify-input",
    "preparation",
    type=click.Choice(["network", "pixels", "unit", "symmetric", "imagenet", "caffe"]),
    help="What FILE's network takes for a picture.  [default: what it says, or what the spec makes of pixels]",
)
@format_option("table", "json")
def import_weights(
    spec: str,
    overrides: Overrides,
    file: Path,
    out: Path,
    mapping: Path | None,
    partial: bool,
    drop_class: int | None,
    layout: Literal["OIHW", "HWIO"] | None,
    copy: str | None,
    trust_order: bool,
    seed: int,
    pictures: tuple[Path, ...],
    program: Path | None,
    preparation: Literal["network", "pixels", "unit", "symmetric", "imagenet", "caffe"] | None,
    format: str,
) -> None:
    """Import the weights in FILE for the network of SPEC, and say which layer became which."""
    from cnnc.loading import find, load_spec
    from cnnc.weights.importing.any_file import read_source
    from cnnc.weights.importing.import_weights import Options, combine
    from cnnc.weights.importing.matching.by_user import read_mapping
    from cnnc.weights.importing.readers.sizes import most_bytes
    from cnnc.weights.weights_file import require_sound

    if not pictures:
        refuse("--verify", [("--verify-with", program), ("--verify-input", preparation)])
    net = load_spec(find(spec), overrides)
    _require_place(out, file)
    source = read_source(file, most_bytes(net.graph), copy)
    given = () if mapping is None else read_mapping(mapping)
    imported = combine(net.graph, source, Options(given, partial, drop_class, layout, trust_order, seed))
    require_sound(net.graph, imported.weights, f"`{file}`")
    verified = None
    if pictures:
        with extra("train", "verification"):
            verified = _verified(net, imported, file, pictures, drop_class, preparation, program)
    _write(out, net, source, imported)
    _report(source, imported, verified, out, format)


def _report(source: Source, imported: Imported, verified: Verified | None, out: Path, format: str) -> None:
    if format == "json":
        echo_json(_words(source, imported, verified, out))
        return
    echo_block(_table(imported))
    echo(*_summary(source, imported))
    if verified is not None:
        echo(*_comparison(verified))
    echo(f"wrote {out}")


def _require_place(out: Path, file: Path) -> None:
    if out.suffix != ".safetensors":
        raise CnnError.of(
            "weights", f"`{out}` is to be a safetensors file", help=f"-o {out.with_suffix('.safetensors')}"
        )
    require_apart(out, [file])


def _write(out: Path, net: Net, source: Source, imported: Imported) -> None:
    from cnnc.ir.text import print_graph
    from cnnc.weights.weights_file import save_weights

    facts = {
        "model": net.name,
        "graph_sha256": hashlib.sha256(print_graph(net.graph).encode()).hexdigest(),
        "source": source.path.name,
        "source_format": source.format,
    }
    if source.path.is_file():
        facts["source_sha256"] = hashlib.sha256(source.path.read_bytes()).hexdigest()
    save_weights(out, imported.weights, facts)


def _verified(
    net: Net,
    imported: Imported,
    file: Path,
    pictures: tuple[Path, ...],
    drop_class: int | None,
    preparation: Any,
    program: Path | None,
) -> Verified:
    from cnnc.data.pictures.decode import decode
    from cnnc.weights.importing.verify import require_agreement, verify

    shapes = [node.shape for node in net.graph.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise CnnError.of("weights", "`--verify` takes networks of one picture")
    height, width, channels = shapes[0]
    decoded = {str(path): decode(path, (height, width), channels) for path in pictures}
    found = verify(
        net, imported.weights, file, decoded, drop_class=drop_class, preparation=preparation, program=program
    )
    require_agreement(found)
    return found


def _table(imported: Imported) -> str:
    from cnnc.rendering.text_table import box

    rows = [
        (line.source, line.source_shape, line.target, line.target_shape, line.change, line.evidence)
        for line in imported.lines
    ]
    head = ("in the file", "shape", "in the network", "shape", "change", "by")
    return box(head, [rows])


def _summary(source: Source, imported: Imported) -> list[str]:
    values = sum(array.size for arrays in imported.weights.values() for array in arrays.values())
    lines = [
        f"{source.path}: {source.format}, {len(imported.lines)} of {len(source.layers)} layers, "
        f"{imported.values:,} values; the network has {values:,}"
    ]
    if imported.initial:
        lines.append(f"at first values: {_listed(imported.initial)}")
    if imported.unused:
        lines.append(f"not used: {_listed(imported.unused)}")
    reasons: dict[str, list[str]] = {}
    for name, reason in (source.ignored or {}).items():
        reasons.setdefault(reason, []).append(name)
    return lines + [f"no weights, as {reason}: {_listed(names)}" for reason, names in reasons.items()]


def _listed(names: Any) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{', '.join(found[:_SHOWN])}{more}"


def _comparison(verified: Verified) -> list[str]:
    lines = [f"verified beside {verified.ran}, which takes {verified.takes}:"]
    widest = max(len(each.picture) for each in verified.pictures)
    lines += [
        f"  {each.picture:<{widest}}  class {each.source} and {each.target}, differ by {each.difference:.1e} of the "
        f"range, correlation {each.correlation:.4f}"
        for each in verified.pictures
    ]
    same = f"  {verified.agreeing} of {len(verified.pictures)} agree on the class"
    return [*lines, f"{same}; the file computes in 8 bits" if verified.quantized else same]


def _words(source: Source, imported: Imported, verified: Verified | None, out: Path) -> dict[str, Any]:
    words: dict[str, Any] = {
        "source": str(source.path),
        "format": source.format,
        "layers": [
            {
                "source": line.source,
                "source_shape": line.source_shape,
                "target": line.target,
                "target_shape": line.target_shape,
                "change": line.change,
                "by": line.evidence,
            }
            for line in imported.lines
        ],
        "values": imported.values,
        "initial": list(imported.initial),
        "unused": list(imported.unused),
        "out": str(out),
    }
    if verified is not None:
        words["verified"] = {
            "agreeing": verified.agreeing,
            "difference": verified.difference,
            "correlation": verified.correlation,
            "pictures": [
                {"picture": each.picture, "source": each.source, "target": each.target, "difference": each.difference}
                for each in verified.pictures
            ],
        }
    return words
