"""The train section: what a spec says of its training, and the defaults of what it leaves out."""

from __future__ import annotations

import pytest

from cnnc import recipe
from cnnc.diagnostics import CnnError
from cnnc.recipe import Recipe
from tests.support.networks_of_texts import network

MODEL = "model m(rate=0.1, steps=3) {\n input 8x8x3\n globalpool | dense(10) | softmax\n}\n"


def recipe_of(section: str, model: str = MODEL, **overrides: object) -> Recipe:
    return network(f"{model}train {{\n{section}\n}}", **overrides).recipe


def test_the_designs_section() -> None:
    section = """
      data      cifar10
      augment   pad_crop(4) | flip
      loss      cross_entropy(label_smoothing=0.1)
      optimizer sgd(momentum=0.9, nesterov=true, weight_decay=5e-4)
      schedule  cosine(peak=0.1, warmup=2)        # epochs
      batch     128
      epochs    30"""
    assert recipe_of(section) == Recipe(
        data="cifar10",
        augment=(recipe.PadCrop(4), recipe.Flip(0.5)),
        losses=((None, recipe.CrossEntropy(label_smoothing=0.1)),),
        optimizer=recipe.Sgd(0.9, True, 5e-4),
        schedule=recipe.Cosine(peak=0.1, warmup=2.0),
        batch=128,
        epochs=30,
        seed=0,
        precision="f32",
    )


def test_without_a_section_there_are_defaults() -> None:
    assert network(MODEL).recipe == recipe_of("") == Recipe()


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("sgd", recipe.Sgd()),
        ("sgd(0.9)", recipe.Sgd(momentum=0.9)),
        ("adam", recipe.Adam()),
        ("adam(b1=0.8, b2=0.99, epsilon=1e-6)", recipe.Adam(0.8, 0.99, 1e-6)),
        ("adamw(weight_decay=0.05)", recipe.AdamW(weight_decay=0.05)),
        ("rmsprop(decay=0.9, momentum=0.9, epsilon=1e-3)", recipe.RmsProp(0.9, 0.9, 1e-3)),
        ("lars(0.8, trust=0.02, nesterov=true)", recipe.Lars(0.8, 1e-4, 0.02, True)),
        ("lion(0.95, weight_decay=0.1)", recipe.Lion(0.95, 0.99, 0.1)),
    ],
)
def test_optimizers(written: str, wanted: recipe.Optimizer) -> None:
    assert recipe_of(f"optimizer {written}").optimizer == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("constant(0.1)", recipe.Constant(0.1)),
        ("step(peak=0.1, at=[30, 60])", recipe.Step(0.1, at=(30.0, 60.0))),
        ("step(at=2.5, factor=0.5)", recipe.Step(at=(2.5,), factor=0.5)),
        ("cosine(0.1, 5, floor=0.01)", recipe.Cosine(0.1, 5.0, 0.01)),
        ("linear(peak=0.5, floor=0.1)", recipe.Linear(0.5, 0.0, 0.1)),
        ("exponential(peak=0.256, factor=0.97, every=2.4, warmup=5)", recipe.Exponential(0.256, 5.0, 0.97, 2.4)),
        ("one_cycle(0.4, rise=0.25, end=0)", recipe.OneCycle(0.4, 0.25, 0.04, 0.0)),
    ],
)
def test_schedules(written: str, wanted: recipe.Schedule) -> None:
    assert recipe_of(f"schedule {written}").schedule == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("none", ()),
        ("flip", (recipe.Flip(),)),
        ("flip(probability=0.3) | pad_crop(pixels=2)", (recipe.Flip(0.3), recipe.PadCrop(2))),
        ("random_resized_crop(minimum_area=0.5) | flip", (recipe.RandomResizedCrop(0.5), recipe.Flip())),
    ],
)
def test_augmentations(written: str, wanted: tuple[recipe.Augment, ...]) -> None:
    assert recipe_of(f"augment {written}").augment == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("cross_entropy", recipe.CrossEntropy()),
        ("binary_cross_entropy(label_smoothing=0.1)", recipe.BinaryCrossEntropy(0.1)),
        ("mse", recipe.MeanSquaredError()),
        ("mean_squared_error(weight=2)", recipe.MeanSquaredError(2.0)),
    ],
)
def test_losses(written: str, wanted: recipe.Loss) -> None:
    assert recipe_of(f"loss {written}").losses == ((None, wanted),)


def test_each_output_may_have_its_loss() -> None:
    model = "model m {\n input 8x8x3\n globalpool\n a: dense(4)\n b: dense(1)\n output a, b\n}\n"
    wanted = (("a", recipe.CrossEntropy()), ("b", recipe.MeanSquaredError(0.5)))
    assert recipe_of("loss a: cross_entropy, b: mse(weight=0.5)", model).losses == wanted
    assert recipe_of("loss a: cross_entropy,\n b: mse(weight=0.5)", model).losses == wanted


@pytest.mark.parametrize(("written", "wanted"), [("digits", "digits"), ('"my/pictures"', "my/pictures")])
def test_data_is_a_name_or_a_folder(written: str, wanted: str) -> None:
    assert recipe_of(f"data {written}").data == wanted


def test_the_remaining_entries() -> None:
    found = recipe_of("batch 2 * 16\nepochs 7\nseed 42\nprecision bf16")
    assert (found.batch, found.epochs, found.seed, found.precision) == (32, 7, 42, "bf16")


def test_what_else_a_step_does() -> None:
    found = recipe_of("accumulate 4\nclip 1\nema 0.999\npatience steps\nremat on\nbatch_norm local\non_nan skip")
    assert (found.accumulate, found.clip, found.ema, found.patience) == (4, 1.0, 0.999, 3)
    assert (found.remat, found.batch_norm, found.on_nan) == (True, "local", "skip")
    assert recipe_of("clip none\nema none\npatience none\nremat off\nbatch_norm global\non_nan stop") == Recipe()


@pytest.mark.parametrize(
    ("written", "message", "column"),
    [
        ("accumulate 0", "`accumulate` is 0, but must be from 1 to 2147483647", 12),
        ("accumulate 1.5", "`accumulate` is a whole number, but `1.5` is a fraction", 12),
        ("clip 0", "`clip` is 0, but must be above 0", 6),
        ("clip 1 - 3", "`clip` is -2, but must be above 0", 6),
        ("ema 1", "`ema` is 1, but must be above 0 and below 1", 5),
        ("ema 0.0", "`ema` is 0, but must be above 0 and below 1", 5),
        ("ema true", "`ema` is a number, but `true` is a truth value", 5),
        ("patience 0", "`patience` is 0, but must be from 1 to 2147483647", 10),
        ("remat yes", "`remat` is `on` or `off`, not `yes`", 7),
        ("remat true", "`remat` is `on` or `off`, not `true`", 7),
        ("batch_norm all", "`batch_norm` is `global` or `local`, not `all`", 12),
        ("on_nan ignore", "`on_nan` is `stop` or `skip`, not `ignore`", 8),
        ("schedule one_cycle(0.1, warmup=2)", "`one_cycle` has no parameter `warmup`", 25),
        ("schedule one_cycle(rise=1)", "`rise` must be above 0 and below 1", 20),
        ("optimizer lars(trust=0)", "`trust` must be above 0", 16),
        ("optimizer lion(b1=1)", "`b1` must be from 0 up to 1", 16),
        ("clip a: 1", "`clip` takes one value", 1),
    ],
)
def test_values_that_an_entry_cannot_have(written: str, message: str, column: int) -> None:
    with pytest.raises(CnnError) as caught:
        recipe_of(written)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == message
    assert diagnostic.primary is not None
    start = diagnostic.primary.span.start
    assert diagnostic.primary.span.source.position(start) == (MODEL.count("\n") + 2, column)


def test_changes_joined_as_arguments_are_told_how_to_be_joined() -> None:
    with pytest.raises(CnnError) as caught:
        recipe_of("augment flip, pad_crop(2)")
    (found,) = caught.value.diagnostics
    assert found.help is not None
    example = found.help.partition(": ")[2]
    assert len(recipe_of(example).augment) == 2


def test_entries_may_use_the_models_parameters() -> None:
    section = "schedule constant(rate)\nepochs steps * 2"
    assert recipe_of(section).schedule == recipe.Constant(0.1)
    assert recipe_of(section, settings=(("rate", "0.5"),)).schedule == recipe.Constant(0.5)
    assert recipe_of(section).epochs == 6


def test_a_seed_may_be_zero() -> None:
    assert recipe_of("seed 0").seed == 0
