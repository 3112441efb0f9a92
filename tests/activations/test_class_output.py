"""The output of classes of networks that say little of it, or what does not fit."""

from __future__ import annotations

import cnnc
from cnnc.activations.class_output import ClassOutput, network_output
from cnnc.activations.model_view import view_network
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.runs.trained import Trained


def trained(end: str, train: str = "") -> Trained:
    text = f"model m() {{\n  input 8\n  {end}\n}}\n{train}"
    net = cnnc.load_text(text)
    return Trained(net, random_weights(net.graph, 0))


def recipe(loss: str) -> str:
    return f"train {{\n  loss {loss}\n  optimizer sgd()\n  schedule constant(0.1)\n  batch 8\n  epochs 1\n}}\n"


def test_a_spec_without_a_recipe_is_read_by_its_end() -> None:
    assert network_output(trained("dense(2) | softmax")) == ClassOutput("softmax1", 2, "none", "classes")
    assert network_output(trained("dense(2)")) == ClassOutput("dense1", 2, "softmax", None)
    assert network_output(trained("dense(1) | sigmoid")) == ClassOutput("sigmoid1", 1, "none", None)
    assert network_output(trained("dense(1)")) is None


def test_a_loss_that_does_not_fit_the_end_does_no_harm() -> None:
    assert network_output(trained("dense(2) | sigmoid", recipe("cross_entropy"))) == ClassOutput(
        "sigmoid1", 2, "none", None
    )


def test_values_are_no_classes() -> None:
    assert network_output(trained("dense(2) | softmax", recipe("mean_squared_error"))) is None


def test_labels_name_classes_and_leave_the_reading_as_it_is() -> None:
    view = view_network(trained("dense(2)", recipe("binary_cross_entropy")), "m", ("dark", "light"))
    assert view.classes == ("dark", "light")
    assert view.output == ClassOutput("dense1", 2, "sigmoid", "labels")
