"""The record of a run: the network with its recipe and the data that it was trained on, written and read back.

`spec.cnn` is the spec with its imports written in; `args.yaml` holds everything else in words. The hash of the graph's
text goes into both `args.yaml` and the weights, so that a folder put together from two runs is found out.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from cnnc.diagnostics import CnnError, Source
from cnnc.documents import BadDocument, parse_yaml, typed
from cnnc.files import read_bytes, write_atomically
from cnnc.ir import Graph, Node
from cnnc.ir.text import print_graph, read_graph
from cnnc.loading import Spec, load_spec
from cnnc.net import Net
from cnnc.ops import Conv, Depthwise
from cnnc.overrides import Overrides
from cnnc.recipe.yaml_form import plain, recipe_from_words, recipe_in_words
from cnnc.runs.data_note import DataNote
from cnnc.runs.folder import RunFolder

_PACKAGES = ("cnnc", "jax", "jaxlib", "optax", "numpy", "pillow")


def graph_hash(graph: Graph) -> str:
    """SHA-256 of the graph's text: what a network computes, whatever its spec's comments and its training."""
    return hashlib.sha256(print_graph(graph).encode()).hexdigest()


def graph_hashes(graph: Graph) -> tuple[str, ...]:
    """The graph's hash, and the one that it had before a convolution of as many groups as channels was depthwise."""
    return graph_hash(graph), graph_hash(replace(graph, nodes=tuple(_as_grouped(graph, node) for node in graph)))


def _as_grouped(graph: Graph, node: Node) -> Node:
    op, written = node.op, node.origin.span.text if node.origin else ""
    if not isinstance(op, Depthwise) or not written.startswith("conv"):
        return node
    ((*_, groups),) = graph.input_shapes(node)
    size = op.kernel, groups * op.multiplier, op.stride, op.padding, op.dilation
    return replace(node, op=Conv(*size, groups, op.bias, op.init))


def write_record(folder: RunFolder, net: Net, data: DataNote) -> None:
    """Write `spec.cnn` (or `graph.txt` for a network without a spec) and `args.yaml`."""
    if net.text:
        write_atomically(folder.spec, net.text)
    else:
        write_atomically(folder.graph, print_graph(net.graph))
    content = {
        "model": net.name,
        "graph_sha256": graph_hash(net.graph),
        "overrides": plain(asdict(net.overrides)) if isinstance(net.overrides, Overrides) else {},
        "data": plain(asdict(data)),
        "train": recipe_in_words(net.recipe),
        "versions": versions(),
    }
    write_atomically(folder.args, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True, eq=False)
class Record:
    """The record in a run's folder, without weights: the network with the recipe that it was trained by.

    `versions` are of the packages that it was trained with.
    """

    folder: RunFolder
    net: Net
    data: DataNote
    versions: Mapping[str, str]


def open_record(path: Path) -> Record:
    """The record in the folder of a run.

    Raises:
        CnnError: `run` when the folder is no run, or is incomplete.
    """
    folder = _require_run(path)
    args = _read_args(folder)
    data = _read_data(folder, args["data"])
    versions = args.get("versions")
    net = replace(_read_net(folder, args), recipe=recipe_from_words(args["train"], data.data))
    return Record(folder, net, data, versions if isinstance(versions, dict) else {})


def _require_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise CnnError.of("run", f"the run `{path}` {what}", help="a run is a folder such as runs/mlp/exp1")
    if folder.args.is_file() and (folder.spec.is_file() or folder.graph.is_file()):
        return folder
    runs = sorted(p.name for p in path.iterdir() if (p / "args.yaml").is_file())
    if runs:
        raise CnnError.of("run", f"`{path}` holds runs, and one is wanted", help=f"such as {path / runs[-1]}")
    missing = [p.name for p in (folder.spec, folder.args) if not p.is_file()]
    raise CnnError.of("run", f"`{path}` is no run, or an incomplete one: it lacks {' and '.join(missing)}")


def _read_args(folder: RunFolder) -> Mapping[str, Any]:
    try:
        content = parse_yaml(read_bytes(folder.args).decode())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CnnError.of("run", f"cannot read `{folder.args}`: {reason}") from error
    wanted = {"model": str, "graph_sha256": str, "overrides": dict, "data": dict, "train": dict}
    wrong = [
        key for key, kind in wanted.items() if not isinstance(content, dict) or not isinstance(content.get(key), kind)
    ]
    if wrong:
        raise CnnError.of("run", f"`{folder.args}` lacks {', '.join(f'`{key}`' for key in wrong)}")
    assert isinstance(content, dict)
    return content


def _read_net(folder: RunFolder, args: Mapping[str, Any]) -> Net:
    if not folder.spec.is_file():
        net = Net(read_graph(folder.graph.read_text(encoding="utf-8"), str(folder.graph)))
    else:
        source = Source(str(folder.spec), folder.spec.read_text(encoding="utf-8"))
        net = load_spec(Spec(source, None, args["model"]), _overrides(folder, args["overrides"]))
    # A nameless model is called after its file, which is spec.cnn here.
    net = replace(net, graph=replace(net.graph, name=args["model"]))
    if args["graph_sha256"] not in graph_hashes(net.graph):
        raise CnnError.of(
            "run",
            f"`{folder.path}` was trained for another network than its spec describes",
            help="put back the spec.cnn that it was trained with, or train the changed spec in a run of its own",
        )
    return net


def _overrides(folder: RunFolder, given: Mapping[str, Any]) -> Overrides:
    try:
        return typed(Overrides, given)
    except BadDocument as error:
        raise CnnError.of("run", f"`{folder.args}`, overrides: {error}") from error


def _read_data(folder: RunFolder, given: Mapping[str, Any]) -> DataNote:
    try:
        note = typed(DataNote, given)
        if not 0 <= note.held_out < 1:
            raise BadDocument(f"`held_out` cannot be `{note.held_out}`")
        return note
    except BadDocument as error:
        raise CnnError.of("run", f"`{folder.args}` does not say what the run was trained on: {error}") from error


def versions() -> dict[str, str]:
    """Of Python and the packages that decide what a training computes."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
