"""Commands that run out of memory, as NumPy, Python and XLA say it."""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
import pytest

from tests.support.calling import call

jnp = pytest.importorskip("jax.numpy", reason="needs jax")


def instead(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something else when a command is called."""
    monkeypatch.setattr(click.Group, "invoke", lambda *_: action())


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda: jnp.zeros(1 << 50, jnp.uint8), "for another 1,125,899,906,842,624 bytes"),
        (lambda: np.empty(1 << 60, np.uint8), "Unable to allocate"),
        (lambda: bytearray(1 << 62), "there is no memory left"),
    ],
)
def test_a_command_that_runs_out_of_memory_says_so(
    monkeypatch: pytest.MonkeyPatch, fill: Callable[[], object], said: str
) -> None:
    instead(monkeypatch, fill)
    result = call("list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error[memory]: there is no memory left")
    assert said in result.stderr
    assert "  = help: a smaller input, network or batch needs less" in result.stderr


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of ours, and what a service without room for another caller says."""
    for error in (RuntimeError("a fault"), RuntimeError("RESOURCE_EXHAUSTED: too many pings")):

        def fail(error: RuntimeError = error) -> None:
            raise error

        instead(monkeypatch, fail)
        with pytest.raises(RuntimeError, match=str(error)):
            call("list")
