"""How a command says that the user's input is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from cnnc.diagnostics import CnnError, Diagnostic, render

_FORMAT = "cnnc.format"


def remember_format(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Note the format that a command was asked for, so that its errors come in it too. A callback of click's."""
    ctx.meta[_FORMAT] = value
    return value


def report(error: CnnError, ctx: click.Context) -> None:
    """Print an error: text to stderr, or JSON to stdout where `--format json` asked for it."""
    if ctx.meta.get(_FORMAT) == "json":
        click.echo(to_json(error.diagnostics))
    else:
        click.echo("\n\n".join(map(_styled, error.diagnostics)), err=True)


def to_json(diagnostics: Sequence[Diagnostic], more: Mapping[str, Any] | None = None) -> str:
    """`{"ok": ..., "diagnostics": [...]}` and what there is `more`; no diagnostics are good ones."""
    import json

    words = {"ok": not diagnostics, "diagnostics": [d.to_json() for d in diagnostics], **(more or {})}
    return json.dumps(words, indent=2)


def _styled(diagnostic: Diagnostic) -> str:
    """The text with its first words in red, which `click.echo` leaves out where no terminal is."""
    head = f"error[{diagnostic.code}]"
    return render(diagnostic).replace(head, click.style(head, fg="red", bold=True), 1)
