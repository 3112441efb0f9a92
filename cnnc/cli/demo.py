"""`cnnc demo`: the whole way in about a minute, on pictures that come with scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_block, echo_error
from cnnc.cli.options.common import OUTPUT_FOLDER
from cnnc.cli.train import show_next, told_how_to_go_on
from cnnc.files import write_atomically

SPEC = """\
# Handwritten digits of 8x8, 1,797 of them (Alpaydin & Kaynak 1998).
model digits(classes=10) {
  input 8x8x1
  normalize(mean=128, std=128)
  conv(3x3, 32) | bn | relu
  conv(3x3, 32) | bn | relu | maxpool(2x2)
  conv(3x3, 64) | bn | relu | maxpool(2x2)
  flatten | dropout(0.2) | dense(classes) | softmax
}

train {
  data      digits
  loss      cross_entropy(label_smoothing=0.1)
  optimizer adamw(weight_decay=0.01)
  schedule  cosine(peak=0.005, warmup=1)
  batch     32
  epochs    12
}
"""


@click.command("demo")
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="The run's folder, new or empty.  [default: runs/digits/exp<n>]",
)
def demo(out: Path | None) -> None:
    """Train a small network on scikit-learn's digits, compile it for the Edge TPU, and compare float with int8."""
    from cnnc.loading import load_text

    net = load_text(SPEC, "digits.cnn")
    with extra("tflite", "the demo"):
        from cnnc.deployment.tflite import compile_tflite  # noqa: F401  # missing extras are reported before the work
    with extra("train", "the demo"):
        from cnnc.cli.console.watch import watching
        from cnnc.training.train import train

    echo_block(SPEC)
    with watching() as report, told_how_to_go_on():
        folder = train(net, "digits", out=out, report=report).folder
    _evaluate(folder)
    model = _compile(folder)
    show_next(folder)
    echo(f"  cnnc predict {model} PICTURE...")


def _evaluate(folder: Path) -> None:
    """Report what the network of a run gets right, and where to look."""
    from cnnc.evaluation.evaluate import evaluate_on
    from cnnc.evaluation.network import network_predictor
    from cnnc.evaluation.test_set import load_test_set
    from cnnc.runs.trained import open_run

    predictor = network_predictor(open_run(folder, last=True))
    found = evaluate_on(predictor, load_test_set(predictor))
    assert found.scores.top1 is not None
    echo("", f"{100 * found.scores.top1:.2f} % of {found.what} are read right after the last epoch")
    echo("the curves, what the network confuses, and what it saw:")
    for name in ("results.png", "confusion_matrix.png", "batch0.png"):
        echo(f"  {folder / name}")


def _compile(folder: Path) -> Path:
    """Compile the network of a run for the Edge TPU and report float beside int8; the file's path."""
    from cnnc.backends.tflite.compile import Settings
    from cnnc.cli.console.edgetpu import predict_edgetpu
    from cnnc.deployment.calibration_samples import samples_of
    from cnnc.deployment.int8_accuracy import compare_files
    from cnnc.deployment.report import in_words
    from cnnc.deployment.tflite import compile_tflite
    from cnnc.runs.trained import open_run

    trained = open_run(folder, last=True)
    echo("", "compiled for the Edge TPU, ranges measured on 100 of the training pictures:")
    samples = samples_of(trained, "digits", folder=None, count=100)
    compiled = compile_tflite(trained, "edgetpu", samples, Settings("uint8"))
    assert compiled.program is not None
    accuracy = compare_files(trained, compiled.program, "digits", folder=None)
    compiled = replace(compiled, accuracy=accuracy)
    assert compiled.program is not None
    place = folder / "digits_int8.tflite"
    predicted = predict_edgetpu(compiled.data, compiled.program, place.name, trained.net.graph, allow_cpu=False)
    write_atomically(place, compiled.data)
    for line in (*in_words(compiled), "", *predicted.text.split("\n")):
        echo(line)
    for warning in compiled.warnings:
        echo_error(warning, "warning")
    echo("", f"in {place}, {len(compiled.data):,} bytes")
    return place
