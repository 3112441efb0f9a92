"""The command line called in this process, as a user calls it, and what it said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cnnc.cli import main
from cnnc.diagnostics import CnnError


def call(*arguments: object) -> Result:
    """How a command ended; what is no error of the user's is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def good(*arguments: object) -> Any:
    """What a command prints as JSON when all is well, and nothing else does it print there."""
    result = call(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(code: str, *arguments: object, exit_code: int = 1) -> str:
    """What a command says when the user is wrong: as text on stderr, and the same as JSON on stdout."""
    result = call(*arguments)
    assert result.exit_code == exit_code, result.output
    assert f"error[{code}]: " in result.stderr
    told = json.loads(call(*arguments, "--format", "json").stdout)
    assert told["ok"] is False
    assert {each["code"] for each in told["diagnostics"]} == {code}
    return result.stderr


def error_of(action: Callable[[], object]) -> str:
    """What an action fails with."""
    with pytest.raises(CnnError) as caught:
        action()
    return str(caught.value)
