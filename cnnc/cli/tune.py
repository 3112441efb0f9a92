"""`cnnc tune`: measure which forms of a network's layers are fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo
from cnnc.cli.options.common import OUTPUT_FILE, spec_options
from cnnc.diagnostics import CnnError
from cnnc.files import require_apart, require_file, write_atomically
from cnnc.overrides import Overrides
from cnnc.wording import reason_of

USUAL = (
    ("cifar_cnn", Overrides(), 64),
    ("resnet", Overrides(variant="cifar"), 32),
    ("mobilenet_v2", Overrides(input=((None, (96, 96, 3)),)), 32),
)
"""The networks that are measured when none is named, and the batches."""


@click.command("tune")
@spec_options
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Pictures a step.  [default: the recipe's]")
@click.option("--rounds", type=click.IntRange(1, 1000), default=9, show_default=True, metavar="N", help="Of each form.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="The table; training then uses it if CNNC_TUNING names it.  [default: the user's cache, always used]",
)
def tune(spec: str, overrides: Overrides, batch: int | None, rounds: int, output: Path | None) -> None:
    """Time the forms of each layer of SPEC, or of `usual` networks, on this machine, and write the table down.

    `cnnc train` then computes every layer in the form that was fastest at the most similar layer.
    """
    from cnnc.loading import find, load_spec

    asked = USUAL if spec == "usual" and overrides == Overrides() else ((spec, overrides, batch),)
    with extra("train", "tuning"):
        from cnnc.backends.jax.forms import choice, measure
        from cnnc.backends.jax.xla import allocator

    import jax

    allocator.keep_freed_memory()
    if jax.default_backend() != "cpu":
        raise CnnError.of("run", f"there are no forms to choose among on `{jax.default_backend()}`", help="use a CPU")
    path = output or _user_table()
    require_apart(path, [spec])
    layers: dict[Any, None] = {}
    for name, own, pictures in asked:
        net = load_spec(find(name), own)
        layers |= measure.layers_of(net.graph, batch or pictures or net.recipe.batch)
    table = measure.measure(layers, rounds, echo)
    write_atomically(path, choice.render(table))
    echo(f"{len(table.entries)} measurements in {path}")


def _user_table() -> Path:
    """The user's own table, which can be written."""
    from cnnc.backends.jax.forms.choice import user_table

    path = user_table()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnError.of("run", f"cannot make `{path.parent}`: {reason_of(error)}") from error
    require_file(path)
    return path
