"""All that the command line prints goes through here, where the text of others is made harmless.

Names of classes, files, layers and tensors come from anywhere. What a terminal would obey in them is spelt out, a new
line, too: whoever prints several lines says so by printing several texts.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import click

from cnnc.diagnostics import CnnError, Diagnostic, render
from cnnc.printable import printable
from cnnc.wording import reason_of


def is_terminal() -> bool:
    """Whether somebody reads what is printed. A command may also have no stdout at all."""
    return sys.stdout is not None and sys.stdout.isatty()


def echo(*lines: object, err: bool = False) -> None:
    """Print lines, by default an empty one."""
    _print("\n".join(printable(str(line)) for line in lines) + "\n", err=err)


def echo_block(text: str) -> None:
    """Print a text of lines that we have made, a table say, whose cells are `printable` already."""
    echo(*text.split("\n"))


def echo_json(words: Any) -> None:
    """Print a value as JSON, all of it in ASCII."""
    import json

    # DEL is the one control character that JSON allows as it is.
    _print(json.dumps(words, indent=2).replace("\x7f", "\\u007f") + "\n")


def echo_document(text: str) -> None:
    """Print a text that is the output itself: to a file or a pipe as it is, to a terminal as `echo` does."""
    if is_terminal():
        echo_block(text.removesuffix("\n"))
    else:
        _print(text.encode(errors="surrogateescape"))


def echo_error(diagnostic: Diagnostic, severity: Literal["error", "warning"] = "error") -> None:
    """Print a diagnostic to stderr, its first words in colour where a terminal is."""
    head = f"{severity}[{diagnostic.code}]"
    colour = "red" if severity == "error" else "yellow"
    # What it quotes is printable already.
    click.echo(render(diagnostic, severity).replace(head, click.style(head, fg=colour, bold=True), 1), err=True)


@contextmanager
def output_errors() -> Iterator[None]:
    """Where output finds no room within, on a full disk say, that is said and the command ends."""
    try:
        yield
    except OSError as error:
        # Not a file that has a name; and of a reader that has gone click makes an end without a word.
        if error.filename is not None or error.errno in (None, errno.EPIPE):
            raise
        reason = reason_of(error)
        for each in CnnError.of("run", f"cannot write the output: {reason}").diagnostics:
            echo_error(each)
        _discard_output()
        raise SystemExit(1) from error


def _print(text: str | bytes, *, err: bool = False) -> None:
    with nullcontext() if err else output_errors():
        click.echo(text, nl=False, err=err)


def _discard_output() -> None:
    """Have what is still buffered go nowhere: Python would fail to write it once more as it ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
