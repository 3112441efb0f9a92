"""What a compilation's report tells of a file's nearness to the float one, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cnnc.backends.tflite.quantization.fidelity import Fidelity, Measurement
from cnnc.deployment.report import Compiled, in_words


def fidelity(name: str, sqnr: float, before: float | None = None) -> Fidelity:
    return Fidelity(name, name, sqnr, -1.0, 1.0, 0.0, 0, 1, before)


def lines(outputs: Sequence[Fidelity] = (), tensors: Sequence[Fidelity] = (), islands: Sequence[str] = ()) -> list[str]:
    measured = Measurement({each.name: each for each in outputs}, {each.name: each for each in tensors}, {}, 1)
    return in_words(Compiled("tflite-int8", b"", "net", islands=tuple(islands), measurement=measured))


@pytest.mark.parametrize(
    ("sqnr", "before", "told"),
    [
        (20.0, 26.0, True),  # a bit
        (20.0, 25.9, False),
        (29.9, 36.0, True),
        (30.0, 40.0, False),  # as near as 8 bits come
        (20.0, None, False),
    ],
)
def test_a_fall_of_a_bit_is_told_below_30_db(sqnr: float, before: float | None, told: bool) -> None:
    found = [line for line in lines(tensors=[fidelity("a", sqnr, before)]) if "it falls at" in line]
    assert found == ([f"  it falls at `a`, from {before:.1f} dB to {sqnr:.1f} dB"] if told else [])


@pytest.mark.parametrize(("count", "told"), [(3, 3), (4, 3)])
def test_the_three_deepest_falls_are_told(count: int, told: int) -> None:
    (line,) = (
        line for line in lines(tensors=[fidelity(f"t{i}", 20 - i, 40.0) for i in range(count)]) if "falls" in line
    )
    assert [word.strip("`,") for word in line.split() if word.startswith("`")] == [
        f"t{i}" for i in reversed(range(count))
    ][:told]


@pytest.mark.parametrize(("count", "rest"), [(6, ""), (7, ", 1 better one"), (9, ", 3 better ones")])
def test_the_six_worst_outputs_are_told(count: int, rest: str) -> None:
    line = lines([fidelity(f"o{i}", 10.0 + i) for i in reversed(range(count))])[0]
    worst = ", ".join(f"`o{i}` {10 + i}.0 dB" for i in range(6))
    assert line == f"signal to noise beside the float file, on 1 sample: {worst}{rest}"


@pytest.mark.parametrize(("count", "rest"), [(6, ""), (7, " and 1 more")])
def test_six_layers_that_stay_float_are_named(count: int, rest: str) -> None:
    line = lines(islands=[f"l{i}" for i in range(count)])[-1]
    named = ", ".join(f"`l{i}`" for i in range(6))
    assert line == f"stay in float, as TFLite has no int8 form of them: {named}{rest}"
