"""Whether targets are what a loss can hold an output to is told before the first step, by what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnc.data.sources.arrays import arrays_data_set
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError
from tests.support.training_cases import session_of

pytestmark = pytest.mark.fault("A4")
BINARY, CLASSES, VALUES = BinaryCrossEntropy(), CrossEntropy(), MeanSquaredError()
THREE, ONE, MAP = "input 5\ndense(3)\n", "input 5\ndense(1)\n", "input 4x4x1\nconv(1x1, 1)\n"
SOFT = np.random.default_rng(0).dirichlet(np.ones(3), 8)


def message_of(spec: str, loss: Loss, y: NDArray[np.generic], *, val: bool = False) -> str:
    """What is said of these targets, to train on or to validate with; nothing where they fit."""
    net = load_text(spec)
    net = replace(net, recipe=replace(net.recipe, losses=((None, loss),)))
    (shape,) = (node.shape for node in net.graph.inputs)
    x = np.zeros((len(y), *shape), np.float32)
    fine = np.full(y.shape, 1 / y.shape[-1] if y.dtype.kind == "f" else 0, y.dtype)
    both = ((x, fine), (x, y)) if val else ((x, y), None)
    try:
        session_of(net, arrays_data_set(net.graph, *both))
    except CnnError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", [int, float, np.uint8])
@pytest.mark.parametrize("val", [False, True])
def test_labels_of_255_are_no_probabilities(kind: type, val: bool) -> None:
    several: NDArray[Any] = np.tile(np.array([[0, 255, 0]], kind), (8, 1))
    message = message_of(THREE, BINARY, several, val=val)
    assert "the targets of `output` go from 0 to 255, and `binary_cross_entropy` wants them from 0 to 1" in message
    assert "help: divide them by 255" in message
    masks: NDArray[Any] = np.tile(np.array([0, 255], kind), 64).reshape(8, 4, 4, 1)
    assert "go from 0 to 255" in message_of(MAP, BINARY, masks, val=val)
    assert "go from 0 to 255" in message_of(
        ONE, BINARY, several[:, 1:2] * np.arange(8, dtype=kind)[:, None].clip(max=1), val=val
    )


def test_values_outside_the_unit_interval_are_named() -> None:
    assert "go from -1 to 1, and `binary_cross_entropy`" in message_of(
        THREE, BINARY, np.tile([[-1.0, 0.0, 1.0]], (8, 1))
    )
    assert "are all 7, and `cross_entropy` wants them from 0 to 1" in message_of(THREE, CLASSES, np.full((8, 3), 7.0))
    assert "`mse`" not in message_of(THREE, VALUES, np.full((8, 3), 7.0)) == ""


def test_shares_of_classes_sum_to_one() -> None:
    wrong = SOFT.copy()
    wrong[5] = [1, 1, 0]
    message = message_of(THREE, CLASSES, wrong, val=True)
    assert "the targets of `output` are shares of classes, and those of example 5 sum to 2, not 1" in message
    assert "where several classes may hold at once: loss binary_cross_entropy" in message
    assert "example 0 sum to 0, not 1" in message_of(THREE, CLASSES, np.zeros((8, 3)), val=True)
    places = np.tile(np.array([0.5, 0.5]), (8, 4, 4, 1))
    places[2, 3, 1] = 0.25
    assert "those of example 2 sum to 0.5" in message_of("input 4x4x1\nconv(1x1, 2)\n", CLASSES, places, val=True)
    assert message_of(THREE, BINARY, wrong, val=True) == ""


@pytest.mark.parametrize(
    ("spec", "loss", "y"),
    [
        (THREE, CLASSES, SOFT),
        (THREE, CLASSES, SOFT.astype(np.float16)),
        (THREE, CLASSES, np.full((8, 3), 0.33)),
        (THREE, CLASSES, np.eye(3, dtype=int)[np.arange(8) % 3]),
        (THREE, CLASSES, np.arange(8) % 3),
        (THREE, BINARY, np.arange(8) % 3),
        (THREE, BINARY, SOFT > 0.3),
        (THREE, BINARY, np.ones((8, 3))),
        (ONE, BINARY, np.arange(8) % 2),
        (ONE, BINARY, np.linspace(0, 1, 8)),
        (MAP, BINARY, np.ones((8, 4, 4, 1), np.uint8)),
        (MAP, BINARY, np.ones((8, 4, 4), bool)),
        (THREE, VALUES, -7 * SOFT),
    ],
)
def test_what_a_loss_can_hold_an_output_to_is_taken(spec: str, loss: Loss, y: NDArray[np.generic]) -> None:
    assert message_of(spec, loss, y) == ""


def test_two_classes_are_0_and_1() -> None:
    message = message_of(ONE, BINARY, np.arange(8) % 2 * 255)
    assert "the labels of `output` go from 0 to 255, and its outputs stand for 0 to 1" in message
    assert "help: 0 is for what does not hold and 1 for what does" in message
