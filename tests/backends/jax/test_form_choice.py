"""The table of measurements: which form it chooses, where it lies, and that training takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pytest

from cnnc import ops
from cnnc.backends.jax.forms import choice, measure
from cnnc.backends.jax.forms.choice import Entry, Layer, Table
from cnnc.diagnostics import CnnError
from tests.support.calling import call
from tests.support.networks import sequential


def layer(size: int = 32, part: str = "conv.forward", kernel: tuple[int, ...] = (3, 3)) -> Layer:
    return Layer(part, kernel, (1, 1), size, 64, 64, 32)


TABLE = Table("here", (Entry(layer(32), {"xla": 2.0, "columns": 1.0}), Entry(layer(4), {"xla": 1.0, "columns": 2.0})))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNNC_TUNING", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


@pytest.mark.parametrize(("size", "form"), [(32, "columns"), (28, "columns"), (4, "xla"), (6, "xla"), (20, "columns")])
def test_the_nearest_entry_says_the_form(size: int, form: str) -> None:
    assert TABLE.choose(layer(size), ("xla", "columns")) == form


def test_what_no_entry_is_like_is_plain() -> None:
    assert TABLE.choose(layer(kernel=(5, 5)), ("xla", "columns")) == "xla"
    assert TABLE.choose(layer(part="conv.weight_gradient"), ("xla", "columns")) == "xla"
    assert TABLE.choose(layer(32 * 2**5), ("xla", "columns")) == "xla"
    assert TABLE.choose(layer(), ("xla",)) == "xla"


def test_a_difference_within_noise_changes_nothing() -> None:
    entry = Entry(layer(), {"xla": 1.0, "columns": 0.97})
    assert entry.best(("xla", "columns")) == "xla"
    assert Entry(layer(), {"xla": 1.0, "columns": 0.9}).best(("xla", "columns")) == "columns"


def test_a_table_is_read_as_it_was_written() -> None:
    assert choice.parse(choice.render(TABLE)) == TABLE


def test_off_the_cpu_every_layer_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choice.chosen() == choice.PLAIN


def test_the_bundled_table_names_forms_that_exist() -> None:
    table = choice.chosen()
    assert len(table.entries) > 20
    known = set()
    convolution = ops.Conv((3, 3), 4, (1, 1), dilation=(1, 1))
    depthwise = ops.Depthwise((3, 3), (1, 1), dilation=(1, 1))
    for op in (convolution, depthwise, ops.MaxPool((2, 2), (2, 2), "valid"), ops.BatchNorm()):
        for found, names in measure.parts_of(op, (8, 8, 4), 2):
            known |= {(found.part, name) for name in names}
    assert {(entry.layer.part, name) for entry in table.entries for name in entry.milliseconds} <= known


def test_a_table_of_the_users_own_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "cnnc" / choice.BUNDLED
    path.parent.mkdir()
    path.write_text(choice.render(TABLE))
    assert choice.chosen() == TABLE
    other = tmp_path / "other.json"
    monkeypatch.setenv("CNNC_TUNING", str(other))
    with pytest.raises(CnnError, match="`CNNC_TUNING` names no file"):
        choice.chosen()
    other.write_text(choice.render(Table("there", ())))
    assert choice.chosen().machine == "there"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": "", "entries": [{}]}', '{"machine": "", "entries": 3}'])
def test_what_is_no_table_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "forms.json"
    path.write_text(text)
    with pytest.raises(CnnError, match=r"is no table of `cnnc tune`"):
        choice.read_table(path)


def test_a_layer_is_asked_for_its_parts() -> None:
    parts = {
        found.part: names
        for found, names in measure.parts_of(ops.Conv((3, 3), 4, (2, 2), dilation=(1, 1)), (8, 8, 3), 16)
    }
    assert set(parts) == {"conv.forward", "conv.weight_gradient"}  # of stride 2 the input's gradient has one form
    net = sequential((8, 8, 4), ops.Conv((3,), 4), ops.Conv((3,), 4), ops.Relu(), ops.BatchNorm())
    assert len(measure.layers_of(net.graph, 8)) == 2


@pytest.mark.slow
def test_tune_measures_and_writes_a_table(tmp_path: Path) -> None:
    spec = tmp_path / "small.cnn"
    spec.write_text("model small {\n  input 6x6x5\n  conv(3x3, 4) | bn | relu | maxpool(2x2) | flatten | dense(2)\n}\n")
    path = tmp_path / "table.json"
    found: Any = call("tune", str(spec), "--batch", "4", "--rounds", "1", "-o", str(path))
    assert found.exit_code == 0, found.output
    parts = {entry.layer.part for entry in choice.read_table(path).entries}
    assert {"batch_norm", "conv.weight_gradient"} <= parts
    assert f"{len(choice.read_table(path).entries)} measurements" in found.output


def test_tune_says_that_other_platforms_have_no_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = call("tune", "mlp")
    assert found.exit_code == 1
    assert "there are no forms to choose among on `gpu`" in found.output
