"""`cnnc activations`: what every layer of a network or a TFLite file makes of a picture, on a page and as files."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_json
from cnnc.cli.options.common import OUTPUT_FOLDER, format_option, override_options, split_patterns
from cnnc.cli.options.model import open_network, refuse, say, say_unlike_pixels, spec_given
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.activations.inspection import Inspection, LayerView
    from cnnc.activations.inspection_files import InspectionFiles
    from cnnc.activations.model_view import ModelView

_LISTED: Final = 5
"""So many of the worst layers are listed."""


@click.command("activations")
@click.argument("what", metavar="RUN|SPEC|MODEL.tflite", type=click.Path(path_type=Path))
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="A new or empty folder.",
)
@click.option(
    "--layers", multiple=True, metavar="PATTERN", help="A layer, label or glob; again for more.  [default: all maps]"
)
@click.option(
    "--compare", type=click.Path(path_type=Path), metavar="OTHER", help="A RUN, SPEC or MODEL.tflite to put beside it."
)
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights for a SPEC: safetensors.")
@click.option(
    "--compare-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights for OTHER if both are SPECs.",
)
@click.option("--random-weights", is_flag=True, help="Random weights for a SPEC, to look at its structure.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a RUN, not the best's.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="The classes, a label a line.")
@click.option("--class", "wanted", metavar="NAME|N", help="What Grad-CAM looks for.  [default: the likeliest class]")
@click.option("--cam-layer", metavar="LAYER", help="The map that Grad-CAM is of.  [default: the last]")
@override_options
@format_option("text", "json")
def activations(
    what: Path,
    image: Path,
    out: Path,
    layers: tuple[str, ...],
    compare: Path | None,
    weights: Path | None,
    compare_weights: Path | None,
    random_weights: bool,
    last: bool,
    labels: Path | None,
    wanted: str | None,
    cam_layer: str | None,
    overrides: Overrides,
    format: str,
) -> None:
    """Show what the layers of a network make of IMAGE: a page, and a picture a layer with a square per filter.

    IMAGE may be a .npy file with an array of the input's shape, where that is no picture.
    """
    sources = [what] if compare is None else [what, compare]
    _require_suitable(sources, overrides, weights, compare_weights, random_weights, last, labels)
    with extra("tflite", "looking at pictures"):
        from cnnc.activations.inspection import inspect
        from cnnc.activations.inspection_files import require_folder, write_inspection
        from cnnc.activations.model_view import NetworkView
    require_folder(out)
    view = _open_view(what, overrides, weights, random_weights, last, labels)
    if isinstance(view, NetworkView) and image.suffix.lower() != ".npy":
        say_unlike_pixels(view.trained)
    other = None
    if compare is not None:
        own = compare_weights if _is_spec(what) and _is_spec(compare) else weights
        other = _open_view(compare, overrides, own, random_weights, last, labels if _is_spec(compare) else None)
    inspection = inspect(
        view, image, patterns=split_patterns(layers), other=other, cam_class=wanted, cam_layer=cam_layer
    )
    _report(inspection, write_inspection(inspection, out), format)


def _require_suitable(
    sources: list[Path],
    overrides: Overrides,
    weights: Path | None,
    compare_weights: Path | None,
    random_weights: bool,
    last: bool,
    labels: Path | None,
) -> None:
    """Raises UsageError for options that none of the sources takes."""
    specs = [source for source in sources if _is_spec(source)]
    if not specs:
        refuse("a SPEC", [*spec_given(overrides, weights), ("--random-weights", random_weights)])
    if len(specs) < 2:
        refuse("two SPECs", [("--compare-weights", compare_weights)])
    if weights and random_weights:
        raise click.UsageError("give either `--weights` or `--random-weights`")
    if not any(source.is_dir() for source in sources):
        refuse("a RUN", [("--last", last)])
    if sources[0].is_dir():
        refuse("a SPEC or a .tflite file", [("--labels", labels)])


def _report(inspection: Inspection, files: InspectionFiles, format: str) -> None:
    if format == "json":
        echo_json(_in_words(inspection, files))
    else:
        _show(inspection, files)
    if inspection.no_cam:
        say([f"no Grad-CAM: {inspection.no_cam}"])
    if files.leftovers:
        say([f"left from before in {files.page.parent}: {', '.join(path.name for path in files.leftovers[:5])}"])


def _is_spec(source: Path) -> bool:
    return not source.is_dir() and source.suffix.lower() != ".tflite"


def _open_view(
    source: Path, overrides: Overrides, weights: Path | None, random: bool, last: bool, labels: Path | None
) -> ModelView:
    """The view of the model that is to be inspected."""
    from cnnc.activations.model_view import open_file, view_network

    if source.suffix.lower() == ".tflite" and not source.is_dir():
        return open_file(source, labels)
    with extra("train", "looking into a network"):
        import jax  # noqa: F401  # the backend and the reader of runs say it less well

        kind: Literal["run", "spec"] = "run" if source.is_dir() else "spec"
        trained = open_network(kind, source, overrides, weights=weights, last=last, random=random)
    if len(trained.net.graph.inputs) != 1:
        names = ", ".join(f"`{node.name}`" for node in trained.net.graph.inputs)
        raise CnnError.of("data", f"`{source}` has several inputs, {names}, and one is looked at")
    from cnnc.evaluation.class_labels import labels_of

    return view_network(trained, str(source), labels_of(labels) if labels else ())


def _in_words(inspection: Inspection, files: InspectionFiles) -> dict[str, Any]:
    view, other = inspection.view, inspection.other
    words: dict[str, Any] = {
        "model": view.name,
        "type": view.dtype,
        "image": str(inspection.image),
        "input": list(view.input_shape),
        "page": str(files.page),
        "top": [] if inspection.prediction is None else _guesses(inspection.prediction.top),
    }
    if inspection.cam is not None and inspection.prediction is not None:
        label = inspection.prediction.label(inspection.cam.index)
        words["cam"] = {"method": inspection.cam.method, "layer": inspection.cam.layer, "class": label}
    if other is not None:
        top = [] if inspection.other_prediction is None else _guesses(inspection.other_prediction.top)
        words["other"] = {"model": other.name, "type": other.dtype, "paired": inspection.criterion, "top": top}
    words["layers"] = [_layer_words(*each) for each in zip(inspection.layers, files.pictures, strict=True)]
    return words


def _layer_words(view: LayerView, picture: Path) -> dict[str, Any]:
    figures, comparison = view.figures, view.comparison
    words = {
        "name": view.layer.title,
        "op": view.layer.kind,
        "shape": list(view.layer.shape),
        "min": figures.low,
        "max": figures.high,
        "mean": figures.mean,
        "zeros": figures.zeros,
        "filters": figures.filters,
        "dead": figures.dead,
        "not_finite": figures.broken,
        "picture": str(picture),
    }
    if comparison is not None:
        words["sqnr_db"] = _finite(comparison.sqnr)
        words["cosine"] = _finite(comparison.cosine)
        words["largest_difference"] = _finite(comparison.largest)
        words["equalized"] = comparison.equalized
    return words


def _guesses(guesses: list[Any]) -> list[dict[str, Any]]:
    return [{"label": guess.label, "probability": _finite(guess.probability)} for guess in guesses]


def _finite(value: float | None) -> float | None:
    """A number that JSON has."""
    return value if value is not None and isfinite(value) else None


def _show(inspection: Inspection, files: InspectionFiles) -> None:
    predictions = [(inspection.view, inspection.prediction)]
    if inspection.other is not None:
        predictions.append((inspection.other, inspection.other_prediction))
    for view, prediction in predictions:
        if prediction is not None:
            best = prediction.top[0]
            echo(f"{view.name}: {best.label}, {100 * best.probability:.1f} %")
    worst = inspection.comparisons[:_LISTED]
    if worst:
        echo("layers that differ most")
        widest = max(len(each.layer.title) for each in worst)
        for each in worst:
            sqnr = "exact" if each.sqnr is None else f"{each.sqnr:.1f} dB"
            echo(f"  {each.layer.title:<{widest}}  {sqnr:>8}  by {each.largest:.3g} at most")
    broken = [view.layer.title for view in inspection.layers if view.figures.broken]
    if broken:
        echo(f"not finite: {', '.join(broken[:_LISTED])}{', ...' if broken[_LISTED:] else ''}")
    size = files.page.stat().st_size
    count = len(files.pictures)
    pictures = "a picture of its layer" if count == 1 else f"pictures of {count} layers"
    echo(f"wrote {files.page}, {size / 1e6:.1f} MB, and {pictures} beside it")
