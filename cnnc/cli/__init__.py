"""The command `cnnc`. A command's module is imported when the command is asked for, and only this package prints."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from cnnc import __version__
from cnnc.cli.console.errors import report
from cnnc.cli.console.shortage import shortage_of
from cnnc.cli.console.terminal import echo, output_errors
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.printable import printable

COMMANDS: Final[Mapping[str, str]] = {
    "check": "Find every fault of a spec, and hold it to its budgets.",
    "show": "Show a network as a table, a picture or a spec written out.",
    "data": "Look at a data set: counts, sizes, colours, broken files.",
    "train": "Train a network on pictures.",
    "find-lr": "Find a learning rate by trying rates from low to high.",
    "eval": "Measure a trained network: accuracy, classes, confusion.",
    "predict": "Say what a trained network sees in pictures.",
    "import-weights": "Import weights that others trained.",
    "embed": "Write what a network makes of pictures as vectors of features.",
    "compile": "Compile a network for TFLite, the Edge TPU or a framework.",
    "diff": "Show where a compiled network's accuracy goes, layer by layer.",
    "activations": "Show what every layer makes of a picture.",
    "tune": "Measure the fastest forms of layers on this machine.",
    "bench": "Time TFLite files beside each other.",
    "list": "List the bundled specs.",
    "fmt": "Lay a spec out in the one canonical form.",
    "demo": "Train on small digits and compile for the Edge TPU.",
}
"""Each command, which the module `cnnc.cli.<name>` has, and what it does; a hyphen in a name is an underscore there."""

_INTERRUPTED: Final = 130
_BRIEF: Final = ("check", "show", "list", "fmt")
"""Commands over in a second, which make much and drop little: looking for garbage costs them a tenth of that."""


class Commands(click.Group):
    """Finds commands by name and turns what they raise into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = name.replace("-", "_")
        command = getattr(import_module(f"cnnc.cli.{module}"), module)
        assert isinstance(command, click.Command), name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            help = did_you_mean(name, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command `{name}`: {help}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        with output_errors():  # of help, which click prints
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # click prints it, and it quotes what was typed, or the names of files that a shell wrote out.
            if type(error).show is not click.UsageError.show:  # a group without a command shows its help
                raise
            if isinstance(error, click.MissingParameter):  # lists what there is to choose, and quotes nothing
                raise
            raise click.UsageError(printable(error.format_message()), error.ctx) from None
        except CnnError as error:
            report(error, ctx)
            ctx.exit(1)
        except (MemoryError, RuntimeError) as error:
            shortage = shortage_of(error)
            if shortage is None:
                raise
            report(shortage, ctx)
            ctx.exit(1)
        except KeyboardInterrupt:
            echo("", "interrupted", err=True)
            ctx.exit(_INTERRUPTED)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        echo(f"cnnc {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Compile, draw and train convolutional networks that are written as .cnn specs.

    A SPEC is a path or the name of a bundled spec, of which `cnnc list` has all. Exit status: 0 good, 1 the input is
    wrong, 2 the command is.
    """
    if ctx.invoked_subcommand in _BRIEF:
        gc.disable()
        ctx.call_on_close(gc.enable)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
