"""`cnnc compile`: a run, or a spec with weights, to a file for a device or another framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_block, echo_error, echo_json
from cnnc.cli.options.common import format_option, override_options
from cnnc.cli.options.int8 import Int8Options, int8_options
from cnnc.cli.options.model import open_network, refuse, spec_given
from cnnc.diagnostics import CnnError
from cnnc.files import require_apart, require_file
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.deployment.calibration_samples import Samples
    from cnnc.deployment.frameworks import Framework
    from cnnc.deployment.report import Compiled
    from cnnc.runs.trained import Trained

Target = Literal["jax", "stablehlo", "tflite", "tflite-int8", "edgetpu", "keras", "savedmodel"]
_ENDINGS: Final[dict[Target, str]] = {
    "jax": ".py",
    "stablehlo": ".mlir",
    "tflite": ".tflite",
    "tflite-int8": "_int8.tflite",
    "edgetpu": "_int8.tflite",
    "keras": ".keras",
    "savedmodel": "_savedmodel",
}
_INT8: Final = ("tflite-int8", "edgetpu")
_ELSEWHERE: Final = ("jax", "stablehlo", "keras", "savedmodel")
_FEW: Final = 20
"""Random samples tell of no accuracy: so many are enough."""
_TARGETS: Final = """\
\b
Targets:
  jax          a Python module that needs nothing but jax, its weights beside it
  stablehlo    StableHLO: OUT.mlir as text, OUT.mlirbc as bytecode
  tflite       a TFLite file in float32
  tflite-int8  a TFLite file in int8, for any LiteRT
  edgetpu      the same of what the Edge TPU has, and what its compiler makes of it
  keras        a .keras file
  savedmodel   TensorFlow's SavedModel, a folder
"""


@click.command("compile", epilog=_TARGETS)
@click.argument("what", metavar="RUN|SPEC", type=click.Path(path_type=Path))
@override_options
@click.option("--target", type=click.Choice([*_ENDINGS]), required=True, help="What to make, see below.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="OUT", help="Where to.  [default: by the model]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights for a SPEC: safetensors.")
@click.option("--random-weights", is_flag=True, help="Random weights for a SPEC, to look at its structure.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a RUN, not the best's.")
@int8_options
@click.option("--allow-cpu", is_flag=True, help="Let operators that the Edge TPU cannot take run on the CPU.")
@click.option(
    "--edgetpu-compiler",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Google's edgetpu_compiler.  [default: the one on the PATH, if any]",
)
@format_option("text", "json")
@click.pass_context
def compile(
    ctx: click.Context,
    what: Path,
    overrides: Overrides,
    target: Target,
    out: Path | None,
    weights: Path | None,
    random_weights: bool,
    last: bool,
    int8: Int8Options,
    allow_cpu: bool,
    edgetpu_compiler: Path | None,
    format: str,
) -> None:
    """Compile the trained network in RUN, or that of SPEC with weights, for a device or another framework."""
    _require_source_options(what, overrides, weights, random_weights, last)
    if target not in _INT8:
        int8.refuse(ctx)
    if target != "edgetpu":
        refuse("the target edgetpu", [("--allow-cpu", allow_cpu), ("--edgetpu-compiler", edgetpu_compiler)])
    _require_source(what)
    compiler = _compiler(edgetpu_compiler) if target == "edgetpu" else None
    if out is not None:
        _require_place(out, target, compiler)
    trained = _open(what, overrides, weights, random_weights, last)
    place = out or _default_place(what, trained, target)
    _require_place(place, target, compiler)
    run_files = [what / "spec.cnn", what / "args.yaml", trained.calibration] if what.is_dir() else []
    require_apart(place, [what, trained.weights_file, int8.calibrate, int8.data, *run_files])
    if target in _ELSEWHERE:
        _compile_elsewhere(trained, target, place, format)
        return
    with extra("tflite", "compiling to TFLite"):
        from cnnc.backends.tflite.compile import Settings
        from cnnc.deployment.tflite import compile_tflite
    samples = _samples(trained, int8) if target in _INT8 else None
    ends = int8.io or ("uint8" if target == "edgetpu" else "int8")
    compiled = compile_tflite(trained, target, samples, Settings(ends, int8.ranges))
    compiled = _with_accuracy(compiled, trained, int8)
    _finish(compiled, trained, place, format, allow_cpu=allow_cpu, compiler=compiler)


def _require_source_options(
    what: Path, overrides: Overrides, weights: Path | None, random_weights: bool, last: bool
) -> None:
    """Raises UsageError for options of a spec beside a run, or of a run beside a spec."""
    if what.is_dir():
        options = [*spec_given(overrides, weights), ("--random-weights", random_weights)]
        refuse("a SPEC: a run has its network and weights", options)
    else:
        refuse("a run's folder", [("--last", last)])
    if weights and random_weights:
        raise click.UsageError("give either `--weights` or `--random-weights`")


def _require_source(what: Path) -> None:
    if what.suffix.lower() == ".tflite":
        raise CnnError.of(
            "spec",
            f"`{what}` is a TFLite file, and a run or a spec is compiled",
            help=f"cnnc check {what} --target edgetpu says what the Edge TPU makes of it",
        )


def _compiler(given: Path | None) -> Path | None:
    """Google's compiler, looked for before the work."""
    from cnnc.backends.edgetpu.compiler import find_compiler

    return find_compiler(given)


def _open(what: Path, overrides: Overrides, weights: Path | None, random: bool, last: bool) -> Trained:
    if what.is_dir():
        with extra("train", "reading a run"):
            return open_network("run", what, overrides, last=last)
    return open_network("spec", what, overrides, weights=weights, random=random)


def _default_place(what: Path, trained: Trained, target: Target) -> Path:
    folder = what if what.is_dir() else Path()
    return folder / f"{trained.net.name}{_ENDINGS[target]}"


def _require_place(place: Path, target: Target, compiler: Path | None) -> None:
    """Raises CnnError where one of the files that are to be written cannot be."""
    if target == "savedmodel":
        from cnnc.backends.keras.save import require_saved_model

        require_saved_model(place)
        return
    require_file(place)
    if target == "jax":
        require_file(place.with_suffix(".safetensors"))
    if compiler is not None:
        from cnnc.cli.console.edgetpu import compiled_place

        require_file(compiled_place(place))


def _samples(trained: Trained, options: Int8Options) -> Samples:
    from cnnc.deployment.calibration_samples import random_samples, samples_of

    name = options.calibrate or trained.calibration or trained.data.name
    if options.calibrate is None and trained.is_random:
        return random_samples(trained, min(options.samples, _FEW))
    if name is None:
        raise CnnError.of(
            "calibration",
            "int8 ranges are measured on data, and it is not said on which",
            help="--calibrate DATA: a data set's name, a folder of pictures, or arrays in an .npz or .npy file",
        )
    with extra("train", "reading data"):
        from cnnc import data  # noqa: F401  # what it imports is what may be missing
    folder = _folder(trained, name, options.data_dir) if isinstance(name, str) else None
    reading: Any = {"skip_corrupt": options.skip_corrupt, "crop": options.crop}
    return samples_of(trained, name, folder=folder, count=options.samples, **reading)


def _folder(trained: Trained, name: str, data_dir: Path | None) -> Path | None:
    """Where the files of a data set by name lie: as it is said, or where the run had it from."""
    from cnnc.data.sources.by_name import NAMES

    if name not in NAMES:
        return None
    return data_dir or (Path(trained.data.folder) if trained.data.folder and name == trained.data.name else None)


def _with_accuracy(compiled: Compiled, trained: Trained, options: Int8Options) -> Compiled:
    if options.data is None:
        return compiled
    assert compiled.program is not None
    with extra("train", "reading data"):
        from cnnc import data as _  # noqa: F401  # what it imports is what may be missing
    from cnnc.deployment.int8_accuracy import compare_files

    folder = _folder(trained, options.data, options.data_dir)
    reading: Any = {"skip_corrupt": options.skip_corrupt, "crop": options.crop}
    found = compare_files(trained, compiled.program, options.data, folder=folder, **reading)
    return replace(compiled, accuracy=found)


def _finish(
    compiled: Compiled, trained: Trained, place: Path, format: str, *, allow_cpu: bool, compiler: Path | None
) -> None:
    from cnnc.deployment.report import in_words, to_json
    from cnnc.files import write_atomically

    words: dict[str, Any] = to_json(compiled, str(place))
    lines = in_words(compiled)
    predicted = None
    if compiled.target == "edgetpu":
        assert compiled.program is not None
        from cnnc.cli.console.edgetpu import predict_edgetpu, run_edgetpu_compiler

        predicted = predict_edgetpu(compiled.data, compiled.program, str(place), trained.net.graph, allow_cpu=allow_cpu)
        lines += ["", *predicted.text.split("\n")]
        words["edgetpu"] = predicted.words
    write_atomically(place, compiled.data)
    if format == "text":
        for line in lines:
            echo(line)
        echo("", f"wrote {place}, {len(compiled.data):,} bytes")
    for note in compiled.notes:
        echo(f"note: {note}", err=True)
    for warning in compiled.warnings:
        echo_error(warning, "warning")
    if predicted is not None:
        outcome = run_edgetpu_compiler(predicted, compiled.data, place, compiler)
        words["compiler"] = outcome.words
        if format == "text":
            echo_block(f"\n{outcome.text}")
    if format == "json":
        echo_json(words)


def _compile_elsewhere(trained: Trained, target: Framework, place: Path, format: str) -> None:
    from cnnc.deployment.frameworks import write

    written = write(trained, target, place)
    if format == "json":
        words: dict[str, Any] = {"model": trained.net.name, "target": target, "output": str(place)}
        files = [{"path": str(path), "bytes": size} for path, size in written.items()]
        echo_json({**words, "bytes": written[place], "files": files})
        return
    for path, size in written.items():
        echo(f"wrote {path}, {size:,} bytes")
