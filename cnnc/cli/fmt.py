"""`cnnc fmt`: specs in the one canonical layout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cnnc.cli.console.terminal import echo, echo_document
from cnnc.diagnostics import CnnError, Source
from cnnc.files import require_file, write_atomically
from cnnc.language.formatter import format_spec
from cnnc.loading import find


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@click.pass_context
def fmt(ctx: click.Context, specs: tuple[str, ...], check: bool) -> None:
    """Lay each SPEC out in the canonical form, in place. White space changes alone; comments stay.

    `-` reads standard input and writes standard output.
    """
    changed = 0
    for name in specs:
        if name == "-":
            text = sys.stdin.read()
            formatted = format_spec(Source("<stdin>", text))
            if not check:
                echo_document(formatted)
        else:
            text, formatted = _format_file(name, check)
        if formatted != text:
            changed += 1
            if name != "-":
                echo(f"{'would lay out' if check else 'laid out'} {name}")
            elif check:
                echo("would lay out standard input")
    if check and changed:
        ctx.exit(1)


def _format_file(name: str, check: bool) -> tuple[str, str]:
    """The text of a file before and after, which is then on disk unless it is only checked."""
    path = Path(name)
    if not check and path.exists() and not path.is_dir():
        require_file(path)
    spec = find(name)
    if spec.folder is None:
        raise CnnError.of("spec", f"`{name}` is a bundled spec, which stays as it is", help="name a file")
    text = path.read_bytes().decode("utf-8-sig")
    formatted = format_spec(Source(name, text))
    if formatted != text and not check:
        write_atomically(path, formatted)
    return text, formatted
