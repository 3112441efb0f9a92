"""`cnnc embed`: feature vectors of pictures, for searching, clustering and small classifiers."""

from __future__ import annotations

from pathlib import Path

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo
from cnnc.cli.options.common import OUTPUT_FILE, override_options
from cnnc.cli.options.model import (
    crop_option,
    kind_of,
    open_network,
    refuse,
    say,
    say_unlike_pixels,
    spec_given,
    weights_option,
)
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides


@click.command("embed")
@click.argument("what", metavar="RUN|SPEC", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE|FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=OUTPUT_FILE, metavar="FILE", help="features.npz or features.csv.")
@click.option("--layer", metavar="NODE", help="A layer or label.  [default: what enters the last dense layer]")
@click.option("--last", is_flag=True, help="The last epoch's weights of a RUN, not the best's.")
@click.option("--skip-corrupt", is_flag=True, help="Leave out and count pictures that cannot be decoded.")
@weights_option
@crop_option
@override_options
def embed(
    what: Path,
    images: tuple[Path, ...],
    out: Path,
    layer: str | None,
    last: bool,
    skip_corrupt: bool,
    weights: Path | None,
    crop: float,
    overrides: Overrides,
) -> None:
    """Write what the network in a RUN or SPEC makes of each IMAGE: a vector of features, before it names a class."""
    kind = kind_of(what, weights)
    if kind == "model":
        raise CnnError.of("spec", f"`{what}` is a file, and features are those of a run or of a spec with weights")
    if kind == "spec":
        refuse("a run", [("--last", last)])
    else:
        refuse("a SPEC", spec_given(overrides, weights))
    with extra("train", "computing features"):
        from cnnc.evaluation import embedding
    if out.suffix.lower() not in embedding.ENDINGS:
        raise click.UsageError(f"`{out}` must end in {' or '.join(embedding.ENDINGS)}")
    trained = open_network(kind, what, overrides, weights=weights, last=last)
    say_unlike_pixels(trained)
    found = embedding.embed(trained, images, layer=layer, crop=crop, skip_corrupt=skip_corrupt)
    embedding.write_features(out, found)
    if found.broken:
        say([f"left out, as it cannot be decoded: {len(found.broken)} of them, {found.broken[0]} first"])
    echo(embedding.described(trained.net.graph, found), f"wrote {out}")
