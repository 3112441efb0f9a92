"""All that the command line prints goes through here, where the text of others is made harmless.

Names of classes, files, layers and tensors come from anywhere. What a terminal would obey in them is spelt out, a new
line, too: whoever prints several lines says so by printing several texts.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import click

from cnnc.diagnostics import Diagnostic, render
from cnnc.printable import printable


def echo(*lines: object, err: bool = False) -> None:
    """Print lines, by default an empty one."""
    click.echo("\n".join(printable(str(line)) for line in lines), err=err)


def echo_block(text: str, *, err: bool = False) -> None:
    """Print a text of lines that we have made, a table say, whose cells are `printable` already."""
    echo(*text.split("\n"), err=err)


def echo_json(words: Any) -> None:
    """Print a value as JSON, all of it in ASCII."""
    import json

    # DEL is the one control character that JSON allows as it is.
    click.echo(json.dumps(words, indent=2).replace("\x7f", "\\u007f"))


def echo_document(text: str) -> None:
    """Print a text that is the output itself: to a file or a pipe as it is, to a terminal as `echo` does."""
    if sys.stdout.isatty():
        echo_block(text.removesuffix("\n"))
    else:
        click.echo(text, nl=False)


def echo_error(diagnostic: Diagnostic, severity: Literal["error", "warning"] = "error") -> None:
    """Print a diagnostic to stderr, its first words in colour where a terminal is."""
    head = f"{severity}[{diagnostic.code}]"
    colour = "red" if severity == "error" else "yellow"
    # What it quotes is printable already.
    click.echo(render(diagnostic, severity).replace(head, click.style(head, fg=colour, bold=True), 1), err=True)
