"""The compiler options of a CPU: set where jaxlib knows them, never over the user's own."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnnc.backends.jax.xla import compile


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


@pytest.mark.usefixtures("on_cpu")
def test_ynnpack_keeps_reductions_only_where_jaxlib_knows_it() -> None:
    if not compile.is_known(compile.YNN_OPTION, "LIBRARY_FUSION_TYPE_REDUCE"):
        assert not (0, 10, 2) <= jax.__version_info__ < (0, 12)
        pytest.skip("this jaxlib has no YNNPACK fusions")
    assert compile.options() == {compile.YNN_OPTION: "LIBRARY_FUSION_TYPE_REDUCE"}


@pytest.mark.usefixtures("on_cpu")
def test_a_jaxlib_without_the_reductions_turns_ynnpack_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "is_known", lambda option, value: value == "")
    assert compile.options() == {compile.YNN_OPTION: ""}


@pytest.mark.usefixtures("on_cpu")
def test_a_jaxlib_without_the_option_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "is_known", lambda option, value: False)
    assert compile.options() == {}


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("value", ["", "LIBRARY_FUSION_TYPE_DOT"])
def test_the_users_own_flag_stands(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_enable_fast_math=false --{compile.YNN_OPTION}={value}")
    assert compile.options() == {}


@pytest.mark.usefixtures("on_cpu")
def test_the_users_other_flags_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compile.options()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert compile.options() == before


def test_no_option_is_set_off_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compile.options() == {}


def test_flags_are_read_from_a_file_as_xla_does(tmp_path: Path) -> None:
    path = tmp_path / "flags"
    path.write_text("--xla_a=1\n--xla_b\n")
    assert compile.user_flags(str(path)) == {"xla_a": "1", "xla_b": ""}
    assert compile.user_flags("--xla_a=1") == {"xla_a": "1"}
    assert compile.user_flags("") == {}
    assert compile.user_flags(str(tmp_path / "absent")) == {}


def test_unknown_options_and_values_are_found_out() -> None:
    assert not compile.is_known("xla_no_such_option", "1")
    assert not compile.is_known(compile.YNN_OPTION, "LIBRARY_FUSION_TYPE_NONSENSE")


def test_jit_compiles_with_static_arguments_and_donation() -> None:
    function = compile.jit(lambda x, power: x**power, static_argnames=("power",), donate_argnums=(0,))
    x = jnp.arange(3.0)
    assert function(x, power=2).tolist() == [0, 1, 4]
    assert x.is_deleted()
