"""How a command says that the user's input is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from cnnc.cli.console.terminal import echo, echo_error, echo_json
from cnnc.diagnostics import CnnError, Diagnostic

_FORMAT = "cnnc.format"


def remember_format(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Note the format that a command was asked for, so that its errors come in it too. A callback of click's."""
    ctx.meta[_FORMAT] = value
    return value


def report(error: CnnError, ctx: click.Context) -> None:
    """Print an error: text to stderr, or JSON to stdout where `--format json` asked for it."""
    if ctx.meta.get(_FORMAT) == "json":
        echo_json(to_json(error.diagnostics))
        return
    for number, diagnostic in enumerate(error.diagnostics):
        if number:
            echo(err=True)
        echo_error(diagnostic)


def to_json(diagnostics: Sequence[Diagnostic], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`{"ok": ..., "diagnostics": [...]}` and what there is `more`; no diagnostics are good ones."""
    return {"ok": not diagnostics, "diagnostics": [d.to_json() for d in diagnostics], **(more or {})}
