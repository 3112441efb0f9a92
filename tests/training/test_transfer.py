"""Transfer learning: first weights from elsewhere, layers that do not learn, or later, or at a rate of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml

from cnnc import ops
from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.data_set import Examples
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.recipe import Recipe
from cnnc.runs.events import Event, Message
from cnnc.training.layer_groups import group_layers
from cnnc.training.loop import TrainingResult
from cnnc.training.train import train
from cnnc.weights.weights_file import load_weights, save_weights
from tests.support.calling import call, error_of
from tests.support.networks import Builder
from tests.support.pictures import make_tree

SPEC = """\
model tiny(classes=2) {
  input 6x6x3
  normalize(mean=128, std=64)
  features: body
  globalpool
  head: dense(classes)
  softmax
}

block body {
  first:  conv(3x3, 4) | bn | relu
  second: conv(3x3, 5) | bn | relu
}

train {
  optimizer sgd(momentum=0.9, weight_decay=0.01)
  schedule  constant(0.05)
  batch     8
  epochs    3
}
"""


def net(classes: int = 2) -> Net:
    return load_text(SPEC.replace("classes=2", f"classes={classes}"))


def data(classes: int = 2, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    pictures = generator.integers(0, 120, (count, 6, 6, 3)) + 60 * labels[:, None, None, None]
    return pictures.astype(np.uint8), labels


def run(tmp_path: Path, network: Net | None = None, **settings: Any) -> tuple[TrainingResult, list[str]]:
    events: list[Event] = []
    network = network or net()
    pictures = data(network.graph[network.graph.outputs[0][1]].shape[-1])
    trained = train(network, pictures, pictures, out=tmp_path, report=events.append, **settings)
    return trained, [event.text for event in events if isinstance(event, Message)]


def last(trained: TrainingResult, network: Net | None = None) -> dict[str, dict[str, np.ndarray]]:
    return load_weights(trained.folder / "weights/last.safetensors", (network or net()).graph)[0]


def varied(network: Net, seed: int = 1) -> dict[str, dict[str, np.ndarray]]:
    """Weights that are not those of an initialisation, batch norm's statistics included."""
    generator = np.random.default_rng(seed)
    return {
        node: {
            short: np.asarray(generator.uniform(0.5, 1.5, array.shape), np.float32)
            if short in ("variance", "gamma")
            else np.asarray(generator.normal(0, 0.5, array.shape), np.float32)
            for short, array in arrays.items()
        }
        for node, arrays in network.init(0).items()
    }


def is_same(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(np.asarray(some[short]), np.asarray(others[short])) for short in some)


# First weights


def test_a_head_that_does_not_fit_is_initialised_anew_and_named(tmp_path: Path) -> None:
    given = varied(net(5))
    save_weights(tmp_path / "w.safetensors", given, {})
    trained, said = run(tmp_path / "run", weights=tmp_path / "w.safetensors", freeze="features")
    found = last(trained)
    for node in given:
        assert is_same(found[node], given[node]) == node.startswith("features"), node
    assert f"10 of 12 arrays start from `{tmp_path / 'w.safetensors'}`" in said
    assert "initialised anew: `head` (`kernel` is 5x5, not 5x2)" in said
    assert said[-1].startswith("frozen: 4 of 5 layers with weights; 12 of ")


def test_a_run_and_a_mapping_are_taken_too(tmp_path: Path) -> None:
    before, _ = run(tmp_path / "one", epochs=1)
    again, said = run(tmp_path / "two", weights=tmp_path / "one", epochs=1, lr=1e-12)
    other, _ = run(tmp_path / "three", weights=before.weights, epochs=1, lr=1e-12)
    assert said[0].startswith("12 of 12 arrays start from ")
    for trained in (again, other):
        assert np.allclose(last(trained)["head"]["kernel"], before.weights["head"]["kernel"], atol=1e-6)
    words = [yaml.safe_load((tmp_path / name / "args.yaml").read_text())["train"] for name in ("one", "two", "three")]
    assert "weights" not in words[0]
    assert words[1]["weights"] == str(tmp_path / "one")
    assert words[2]["weights"] == "arrays"


def test_what_the_network_has_no_place_for_is_said(tmp_path: Path) -> None:
    given = {**varied(net()), "tail": {"kernel": np.zeros(3)}}
    del given["features.first.conv1"]
    _, said = run(tmp_path / "run", weights=given, epochs=1)
    assert any(line.startswith("initialised anew: `features.first.conv1` (no `kernel`)") for line in said)
    assert any("not used, as the network has no such arrays" in line and "`tail.kernel`" in line for line in said)


def test_weights_that_are_of_no_use_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    def fails(weights: object) -> str:
        message = error_of(lambda: run(tmp_path / "run", weights=weights))
        assert not (tmp_path / "run").exists()
        return message

    other = {f"x.{node}": arrays for node, arrays in varied(net()).items()}
    message = fails(other)
    assert "the weights given is of another network: 0 of the 12 arrays of `tiny` are in it" in message
    broken = varied(net())
    broken["features.second.conv1"]["kernel"][0, 0, 0, 0] = np.nan
    assert "`features.second.conv1.kernel` of the weights given has 1 of 180 values that are NaN" in fails(broken)
    assert "there is no file" in fails(tmp_path / "none.safetensors")
    (tmp_path / "folder").mkdir()
    assert "is a folder without `weights/best.safetensors`" in fails(tmp_path / "folder")
    save_weights(tmp_path / "cut.safetensors", varied(net()), {})
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-9])
    assert "cut short" in fails(tmp_path / "cut.safetensors")


# Freezing


@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw(weight_decay=0.1)",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("rmsprop(momentum=0.9)", "sgd(weight_decay=0.1)")),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_learns(tmp_path: Path, optimizer: str) -> None:
    network = load_text(SPEC.replace("sgd(momentum=0.9, weight_decay=0.01)", optimizer))
    given = varied(network)
    trained, _ = run(tmp_path / "run", network, weights=given, freeze=("features.first", "*.second.bn1"))
    found = last(trained, network)
    same = {node for node in given if is_same(found[node], given[node])}
    assert same == {"features.first.conv1", "features.first.bn1", "features.second.bn1"}


def test_training_a_head_is_logistic_regression_on_the_frozen_features(tmp_path: Path) -> None:
    """By hand: the features once, at inference, and optax on them; a batch norm that used its batch would differ."""
    network, given = net(), varied(net())
    pictures, labels = data()
    trained, _ = run(tmp_path / "run", weights=given, freeze="features", epochs=3)
    graph = network.graph
    cut = Net(type(graph)("cut", graph.nodes, (("output", graph["head"].inputs[0]),)))
    head = {short: jnp.asarray(array) for short, array in given["head"].items()}
    optimizer = optax.chain(
        optax.add_decayed_weights(0.01, {"kernel": True, "bias": False}), optax.trace(0.9), optax.scale(-0.05)
    )
    state = optimizer.init(head)
    feed = prepare(Examples((pictures,), (labels.astype(np.int32),)), [(6, 6, 3)])

    def loss(head: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        logits = x @ head["kernel"] + head["bias"]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    for epoch in (1, 2, 3):
        for batch in training_batches(feed, 8, epoch):
            x = cut.apply(given, batch.inputs[0])
            updates, state = optimizer.update(jax.grad(loss)(head, x, batch.targets[0]), state, head)
            head = optax.apply_updates(head, updates)
    found = last(trained)["head"]
    for short in head:
        np.testing.assert_allclose(found[short], head[short], rtol=2e-4, atol=2e-5)


def test_patterns_that_match_nothing_or_all_are_refused(tmp_path: Path) -> None:
    def fails(**settings: Any) -> str:
        message = error_of(lambda: run(tmp_path / "run", **settings))
        assert not (tmp_path / "run").exists()
        return message

    message = fails(freeze="featurs")
    assert "`freeze`: `featurs` matches no layer with weights of `tiny`" in message
    assert "did you mean `features`?" in message
    assert "its labels are `features`, `head`" in fails(freeze="zzz*")
    assert "`relu` matches no layer with weights" in fails(freeze="relu")
    assert "all of `tiny` is frozen, and nothing is left to train" in fails(freeze="*")
    assert "leave its last layer out of `freeze`: head" in fails(freeze=("features", "head"))
    assert "`lr`: `heat` matches no layer" in fails(rates={"heat": 0.1})
    assert "`lr head=0.1` is for what is frozen to the end" in fails(freeze="head", rates={"head": 0.1})
    assert "must be above 0, found -1" in fails(rates={"head": -1.0})
    assert "`unfreeze 2:head` finds nothing frozen in epoch 2" in fails(unfreeze=[(2, "head")])
    assert "the epoch must be at least 2" in fails(freeze="head", unfreeze=[(1, "head")])
    assert "the training ends after epoch 3" in fails(freeze="head", unfreeze=[(4, "head")])


def test_weights_that_several_layers_use_are_frozen_by_any_of_them() -> None:
    builder = Builder()
    builder.add("b", ops.Dense(3), builder.add("a", ops.Dense(3), builder.input("x", (3,))))
    builder.nodes["b"] = replace(builder.nodes["b"], weights_of="a")
    builder.add("head", ops.Dense(2), "b")
    graph = builder.net(y="head").graph
    for pattern in "ab":
        (group,) = group_layers(Net(graph, Recipe(freeze=(pattern,))))
        assert set(group.factors) == {"head"}


# Rates and unfreezing


def test_a_part_learns_at_its_own_rate(tmp_path: Path) -> None:
    """One step of plain descent: what a layer moves by is its rate times its slope."""
    network = load_text(SPEC.replace("sgd(momentum=0.9, weight_decay=0.01)", "sgd"))
    given = varied(network)
    settings: dict[str, Any] = {"weights": given, "epochs": 1, "batch": 24}
    plain = last(run(tmp_path / "one", network, **settings)[0], network)
    rated = last(run(tmp_path / "two", network, rates={"head": 0.5, "*.conv1": 0.005}, **settings)[0], network)
    for node, factor in {"head": 10, "features.first.conv1": 0.1, "features.second.bn1": 1}.items():
        for short in {"kernel", "bias", "gamma", "beta"} & given[node].keys():
            moved, expected = rated[node][short] - given[node][short], plain[node][short] - given[node][short]
            np.testing.assert_allclose(moved, factor * expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd(momentum=0.9)", marks=pytest.mark.slow)])
def test_what_thaws_starts_like_a_training_and_the_rest_goes_on(tmp_path: Path, optimizer: str) -> None:
    """By hand: an optax optimizer for each group, that of the features made when they start to learn."""
    spec = SPEC.replace("sgd(momentum=0.9, weight_decay=0.01)", optimizer).replace(" | bn", "")
    network = load_text(spec)
    given = varied(network)
    pictures, labels = data()
    trained, said = run(tmp_path / "run", network, weights=given, freeze="features", unfreeze=[(2, "features.second")])
    assert "epoch 2: 1 layer more learns, 185 parameters" in said

    def loss(parts: dict[str, dict[str, jax.Array]], x: jax.Array, y: jax.Array) -> jax.Array:
        logits = network.apply({**given, **parts}, x, logits=True)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    rule = optax.adam(0.05) if optimizer == "adam" else optax.sgd(0.05, 0.9)
    parts = {"head": jax.tree.map(jnp.asarray, given["head"])}
    states = {"head": rule.init(parts["head"])}
    feed = prepare(Examples((pictures,), (labels.astype(np.int32),)), [(6, 6, 3)])
    for epoch in (1, 2, 3):
        if epoch == 2:
            parts["features.second.conv1"] = jax.tree.map(jnp.asarray, given["features.second.conv1"])
            states["features.second.conv1"] = rule.init(parts["features.second.conv1"])
        for batch in training_batches(feed, 8, epoch):
            slopes = jax.grad(loss)(parts, batch.inputs[0], batch.targets[0])
            for node in parts:
                updates, states[node] = rule.update(slopes[node], states[node])
                parts[node] = optax.apply_updates(parts[node], updates)
    found = last(trained, network)
    assert is_same(found["features.first.conv1"], given["features.first.conv1"])
    for node, arrays in parts.items():
        for short in arrays:
            np.testing.assert_allclose(found[node][short], arrays[short], rtol=2e-3, atol=2e-4)


# The train section


def section(*lines: str) -> Net:
    return load_text(SPEC.replace("  epochs    3\n", "  epochs 3\n" + "".join(f"  {line}\n" for line in lines)))


def test_the_train_section_says_the_same(tmp_path: Path) -> None:
    given = varied(net())
    save_weights(tmp_path / "w.safetensors", given, {})
    written = section(
        f'weights "{tmp_path / "w.safetensors"}"',
        'freeze "features.first", second',
        "unfreeze features: 2",
        "rates head: 0.5, features: 1e-3",
    )
    recipe = written.recipe
    assert recipe.freeze == ("features.first", "second")
    assert recipe.unfreeze == ((2, "features"),)
    assert recipe.rates == (("head", 0.5), ("features", 0.001))
    lines = (f'weights "{tmp_path / "w.safetensors"}"', "freeze features", "unfreeze features: 2", "rates head: 0.5")
    one, _ = run(tmp_path / "one", section(*lines))
    two, _ = run(
        tmp_path / "two",
        weights=tmp_path / "w.safetensors",
        freeze="features",
        unfreeze=[(2, "features")],
        rates={"head": 0.5},
    )
    assert all(is_same(last(one)[node], last(two)[node]) for node in given)
    words = [yaml.safe_load((tmp_path / name / "args.yaml").read_text())["train"] for name in ("one", "two")]
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("unfreeze features", "`unfreeze` takes a label and a number for each"),
        ("unfreeze features: 1", "`unfreeze` is 1, but must be from 2"),
        ("unfreeze features: 2, features: 3", "`features` is given twice"),
        ("freeze features: 2", "`freeze` takes labels and patterns alone"),
        ("freeze 3", "a name or a path in quotes is wanted"),
        ("rates 0.1", "`rates` takes a label and a number for each"),
        ("rates head: 0", "a rate is 0, but must be above 0"),
        ("rates head: fast", "nothing is named `fast`"),
        ("weights a, b", "`weights` takes one value"),
        ("freez head", "did you mean `freeze`?"),
    ],
)
def test_what_the_train_section_cannot_say_is_refused(line: str, message: str) -> None:
    assert message in error_of(lambda: section(line))


# The command


def test_the_command_takes_them_all_and_records_them(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"train/dark": 6, "train/light": 6, "val/dark": 3, "val/light": 3})
    save_weights(tmp_path / "w.safetensors", varied(net(4)), {})
    start = ("train", tmp_path / "tiny.cnn", "--data", tmp_path / "data", "--weights", tmp_path / "w.safetensors")
    flags = ("--freeze", "features.first, features.second", "--unfreeze", "2:*.second", "--lr", 0.1, "--lr", "head=0.2")
    result = call(*start, *flags, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "initialised anew: `head`" in result.output
    assert "epoch 2: 2 layers more learn" in result.output
    words = yaml.safe_load((tmp_path / "run/args.yaml").read_text())["train"]
    assert words["schedule"]["constant"]["peak"] == 0.1
    assert words["freeze"] == ["features.first", "features.second"]
    assert words["unfreeze"] == {"*.second": 2}
    assert words["rates"] == {"head": 0.2}
    assert call("eval", tmp_path / "run").exit_code == 0
    for wrong in (("--lr", "head="), ("--lr", "=1"), ("--lr", 1, "--lr", 2), ("--unfreeze", "x:y"), ("--unfreeze", 3)):
        assert call(*start, *wrong).exit_code == 2, wrong
    assert "did you mean `features`?" in call(*start, "--freeze", "feature").output
