"""`cnnc compile`: a run, or a spec with weights, to a file for a device or another framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from cnnc.cli.extras import extra
from cnnc.cli.options import format_option, override_options
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.compiling.frameworks import Framework
    from cnnc.compiling.report import Compiled
    from cnnc.compiling.samples import Samples
    from cnnc.compiling.subject import Subject

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
_RANDOM_SEED: Final = 0


@click.command("compile")
@click.argument("what", metavar="RUN|SPEC", type=click.Path(path_type=Path))
@override_options
@click.option("--target", type=click.Choice([*_ENDINGS]), required=True, help="What to make.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="OUT", help="Where to.  [default: by the model]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights for a SPEC: safetensors.")
@click.option("--random-weights", is_flag=True, help="Random weights for a SPEC, to look at its structure.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a RUN, not the best's.")
@click.option("--io", type=click.Choice(["int8", "uint8", "float32"]), help="Type at the ends of an int8 file.")
@click.option("--calibrate", metavar="DATA", help="What to measure int8 ranges on.  [default: the run's training data]")
@click.option(
    "--samples", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="How much of it."
)
@click.option(
    "--ranges",
    type=click.Choice(["auto", "minmax", "percentile", "mse", "entropy"]),
    default="auto",
    show_default=True,
    help="How to choose int8 ranges; auto measures all ways and takes the best.",
)
@click.option("--data", metavar="D", help="Measure top-1 of float and int8 on the test part of this data set.")
@click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where a data set by name lies.")
@click.option("--skip-corrupt", is_flag=True, help="Leave out pictures that cannot be decoded.")
@click.option("--allow-cpu", is_flag=True, help="Let operators that the Edge TPU cannot take run on the CPU.")
@click.option(
    "--edgetpu-compiler",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Google's edgetpu_compiler.  [default: the one on the PATH, if any]",
)
@format_option("text", "json")
def compile(
    what: Path,
    overrides: Overrides,
    target: Target,
    out: Path | None,
    weights: Path | None,
    random_weights: bool,
    last: bool,
    io: Literal["int8", "uint8", "float32"] | None,
    calibrate: str | None,
    samples: int,
    ranges: Literal["auto", "minmax", "percentile", "mse", "entropy"],
    data: str | None,
    data_dir: Path | None,
    skip_corrupt: bool,
    allow_cpu: bool,
    edgetpu_compiler: Path | None,
    format: str,
) -> None:
    r"""Compile the trained network in RUN, or that of SPEC with weights, for a device or another framework.

    \b
    tflite       float32 TFLite file
    tflite-int8  int8 TFLite file for any LiteRT
    edgetpu      int8 TFLite file of what the Edge TPU takes, and what its compiler will say of it
    jax          a Python module that needs nothing but jax
    stablehlo    StableHLO, as IREE and other compilers read it
    keras        a .keras file; savedmodel, a TensorFlow folder
    """
    _check_options(what, target, overrides, weights, random_weights, io, last)
    subject = _subject(what, overrides, weights, random_weights, last)
    place = out or _default_place(what, subject, target)
    _require_place(place)
    if target in ("jax", "stablehlo", "keras", "savedmodel"):
        _compile_elsewhere(subject, target, place, format)
        return
    with extra("tflite", "compiling to TFLite"):
        from cnnc.backends.tflite.compile import Settings
        from cnnc.compiling.tflite import compile_tflite
    found = None
    if target != "tflite":
        found = _samples(subject, calibrate, data_dir, samples, skip_corrupt)
    chosen = io or ("uint8" if target == "edgetpu" else "int8")
    compiled = compile_tflite(subject, target, found, Settings(chosen, ranges))
    compiled = _with_accuracy(compiled, subject, data, data_dir, skip_corrupt)
    _finish(compiled, subject, place, format, allow_cpu=allow_cpu, compiler=edgetpu_compiler)


def _check_options(
    what: Path,
    target: str,
    overrides: Overrides,
    weights: Path | None,
    random_weights: bool,
    io: str | None,
    last: bool,
) -> None:
    is_run = what.is_dir()
    if is_run and (overrides != Overrides() or weights or random_weights):
        raise click.UsageError("a run has its network and weights: those options go with a SPEC")
    if not is_run and last:
        raise click.UsageError("`--last` goes with a run's folder")
    if weights and random_weights:
        raise click.UsageError("give either `--weights` or `--random-weights`")
    if io and target not in ("tflite-int8", "edgetpu"):
        raise click.UsageError("`--io` goes with the targets tflite-int8 and edgetpu")


def _subject(what: Path, overrides: Overrides, weights: Path | None, random: bool, last: bool) -> Subject:
    from cnnc.compiling.subject import from_run, from_spec

    if what.is_dir():
        with extra("train", "reading a run"):
            return from_run(what, last=last)
    return from_spec(str(what), overrides, weights=weights, random=_RANDOM_SEED if random else None)


def _default_place(what: Path, subject: Subject, target: Target) -> Path:
    folder = what if what.is_dir() else Path()
    return folder / f"{subject.net.name}{_ENDINGS[target]}"


def _require_place(place: Path) -> None:
    """Before the work, not after it."""
    if place.is_dir():
        raise CnnError.of("run", f"cannot write `{place}`: it is a folder")
    if not place.parent.is_dir():
        raise CnnError.of("run", f"cannot write `{place}`: there is no folder `{place.parent}`")


def _samples(subject: Subject, calibrate: str | None, data_dir: Path | None, count: int, skip_corrupt: bool) -> Samples:
    from cnnc.compiling.samples import data_samples, random_samples

    name = calibrate or subject.data
    if calibrate is None and subject.is_random:
        return random_samples(subject, min(count, 20))
    if name is None:
        raise CnnError.of(
            "calibration",
            "int8 ranges are measured on data, and it is not said on which",
            help="--calibrate DATA, a data set's name or a folder of pictures",
        )
    with extra("train", "reading data"):
        from cnnc import data  # noqa: F401  # what it imports is what may be missing
    folder = data_dir or (subject.data_folder if calibrate in (None, subject.data) else None)
    return data_samples(subject, name, folder=folder, count=count, skip_corrupt=skip_corrupt)


def _with_accuracy(
    compiled: Compiled, subject: Subject, data: str | None, folder: Path | None, skip_corrupt: bool
) -> Compiled:
    if data is None or compiled.program is None or not compiled.candidates:
        return compiled
    from dataclasses import replace

    from cnnc.compiling.accuracy import compare

    found = compare(subject, compiled.program, data, folder=folder, skip_corrupt=skip_corrupt)
    return replace(compiled, accuracy=found)


def _finish(
    compiled: Compiled, subject: Subject, place: Path, format: str, *, allow_cpu: bool, compiler: Path | None
) -> None:
    from cnnc.compiling.report import in_words, to_json
    from cnnc.files import write_atomically

    words: dict[str, Any] = to_json(compiled, str(place))
    lines = in_words(compiled)
    predicted = None
    if compiled.target == "edgetpu":
        assert compiled.program is not None
        from cnnc.cli.edgetpu import predict_edgetpu, run_edgetpu_compiler

        predicted = predict_edgetpu(compiled.data, compiled.program, str(place), subject.net.graph, allow_cpu=allow_cpu)
        lines.append("")
        lines.append(predicted.text)
        words["edgetpu"] = predicted.words
    write_atomically(place, compiled.data)
    if format == "text":
        for line in lines:
            click.echo(line)
        click.echo(f"\nwrote {place}, {len(compiled.data):,} bytes")
    if predicted is not None:
        outcome = run_edgetpu_compiler(predicted, compiled.data, place, compiler)
        words["compiler"] = outcome.words
        if format == "text":
            click.echo(f"\n{outcome.text}")
    for note in compiled.notes:
        click.echo(f"note: {note}", err=True)
    if format == "json":
        click.echo(json.dumps(words, indent=2))


def _compile_elsewhere(subject: Subject, target: Framework, place: Path, format: str) -> None:
    from cnnc.compiling.frameworks import write

    size = write(subject, target, place)
    if format == "json":
        words = {"model": subject.net.name, "target": target, "output": str(place), "bytes": size}
        click.echo(json.dumps(words, indent=2))
    else:
        click.echo(f"wrote {place}, {size:,} bytes")
