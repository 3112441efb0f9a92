"""Masks move as their pictures do: shown on pictures whose mask can be told from what the augmentation made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnc.data.augmentation import augment as augmentation
from cnnc.data.augmentation.augment import Draw, augment, augment_with_maps, entry_moves_all
from cnnc.data.augmentation.operations import MOVES, OPERATIONS, RANDOM, mirrored
from cnnc.data.augmentation.policies import POLICIES
from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.arrays import arrays_data_set
from cnnc.data.sources.data_set import Examples
from cnnc.diagnostics import CnnError
from cnnc.loading import load, load_text
from cnnc.net import Net
from cnnc.recipe import (
    Augment,
    AutoAugment,
    BinaryCrossEntropy,
    ColorJitter,
    CrossEntropy,
    Cutmix,
    Cutout,
    Flip,
    Loss,
    MeanSquaredError,
    Mixup,
    PadCrop,
    RandAugment,
    RandomResizedCrop,
)
from cnnc.training.train import train
from tests.support.training_cases import session_of

pytestmark = pytest.mark.fault("A1")
REORDERING = ("solarize", "invert")
"""After the other operations what was bright is brighter than the rest still."""
MOVING: tuple[Sequence[Augment], ...] = (
    (Flip(),),
    (PadCrop(5),),
    (PadCrop(40),),
    (RandomResizedCrop(0.3),),
    (RandAugment(3),),
    (RandAugment(2, 30),),
    (AutoAugment("imagenet"),),
    (AutoAugment("cifar10"),),
    (RandomResizedCrop(0.5), Flip(), PadCrop(3), ColorJitter(0.3, 0.3, 0.3, 0.1), RandAugment()),
)


def discs(count: int, height: int = 24, width: int = 31, channels: int = 3) -> NDArray[np.uint8]:
    """Pictures of three white discs each on black, none of them like its mirror image."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    out = np.zeros((count, height, width), np.uint8)
    for picture in out:
        for _ in range(3):
            row, column, radius = generator.uniform((0, 0, 3), (height, width, 8))
            picture[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 255
    return np.repeat(out[..., None], channels, axis=-1)


def bright(pictures: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where each picture is on the brighter side of its own range."""
    grey = pictures.astype(float).mean(axis=-1)
    middle = (grey.min(axis=(1, 2)) + grey.max(axis=(1, 2))) / 2
    return np.asarray(grey > middle[:, None, None])


@pytest.fixture
def _order_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operation draws that makes bright things dark."""
    kept = tuple(name for name in RANDOM if name not in REORDERING)
    monkeypatch.setattr(augmentation, "RANDOM", kept)
    policies = {
        name: [[(op, *rest) for op, *rest in pair if op not in REORDERING] for pair in policy]
        for name, policy in POLICIES.items()
    }
    assert all(len(policy) == 25 for policy in policies.values())
    # A pair of which nothing is left does nothing: identities fill it up.
    full = {n: [[*pair, *[("identity", 0.0, 0)] * (2 - len(pair))] for pair in p] for n, p in policies.items()}
    monkeypatch.setattr(augmentation, "POLICIES", full)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("entries", MOVING, ids=lambda entries: "-".join(entry.names[0] for entry in entries))
@pytest.mark.usefixtures("_order_kept")
def test_a_mask_is_still_what_is_bright_in_its_picture(entries: Sequence[Augment], dtype: type) -> None:
    pictures = discs(120)
    mask: NDArray[Any] = bright(pictures).astype(dtype)
    changed, (classes, soft) = augment_with_maps(pictures, (mask, mask[..., None]), entries, Draw(3, 1, np.arange(120)))
    assert classes.dtype == dtype
    assert np.array_equal(soft[..., 0], classes)
    seen = bright(changed)
    # A picture of one colour tells nothing, nor one that sharpening left with two values an edge apart.
    clear = changed.reshape(120, -1).max(axis=1).astype(int) - changed.reshape(120, -1).min(axis=1) > 8
    assert clear.mean() > 0.8
    wrong = (seen != classes.astype(bool))[clear].mean()
    interpolates = any(isinstance(entry, RandomResizedCrop) for entry in entries)
    assert wrong <= (0.02 if interpolates else 0.003)
    # Left where they were, masks would be wrong in far more places.
    assert (seen != mask.astype(bool))[clear].mean() > 0.025
    assert set(np.unique(classes)) == {0, 1}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("share", [0.3, 0.9, 3.0])
def test_a_map_moves_as_pillow_moves_it_mirrored_at_its_sides(name: str, sign: int, share: float) -> None:
    map = np.random.default_rng(0).integers(0, 1000, (20, 27), dtype=np.int32)
    pad = 80
    a, b, c, d, e, f = MOVES[name](sign * share, 27, 20)
    shifted = (a, b, c + pad, d, e, f + pad)
    wide = Image.fromarray(np.pad(map, pad, mode="symmetric"))
    wanted = np.asarray(wide.transform((27, 20), Image.Transform.AFFINE, shifted))
    found = augmentation._moved(map, name, share, sign)
    # Pillow counts in fixed point: a middle that lies on a border may fall on either side of it.
    assert (found != wanted).mean() < 0.02


@pytest.mark.parametrize("degrees", [0.0, 7.5, 27.0, 30.0, 90.0, -27.0])
@pytest.mark.parametrize("shape", [(20, 27, 3), (16, 16, 3), (15, 15)])
def test_rotate_is_pillows(degrees: float, shape: tuple[int, ...]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    grey: object = 128 if len(shape) == 2 else (128, 128, 128)
    found = OPERATIONS["rotate"](image, abs(degrees) / 30, 1 if degrees >= 0 else -1)
    assert np.array_equal(np.asarray(found), np.asarray(image.rotate(degrees, fillcolor=grey)))  # type: ignore[arg-type]  # a colour


def test_a_cut_mask_is_pillows_nearest() -> None:
    entry = RandomResizedCrop(0.2)
    map = np.random.default_rng(0).integers(0, 1000, (60, 20, 27), dtype=np.int32)
    numbers = augmentation.crop_numbers(Draw(0, 1, np.arange(60)), 0)
    (found,) = augmentation.crop_maps((map,), entry, numbers)
    for own, whole, row in zip(found, map, numbers, strict=True):
        box = augmentation.crop_box(entry, row, 27, 20)
        wanted = np.asarray(Image.fromarray(whole).resize((27, 20), Image.Resampling.NEAREST, box))
        assert (own != wanted).mean() < 0.06  # a column or a row that falls on a border


def test_what_changes_colours_or_covers_leaves_masks_alone() -> None:
    pictures = discs(30)
    mask = bright(pictures)
    entries = (ColorJitter(0.5, 0.5, 0.5, 0.2), Cutout(8))
    changed, (same,) = augment_with_maps(pictures, (mask,), entries, Draw(0, 1, np.arange(30)))
    assert np.array_equal(same, mask)
    assert not np.array_equal(changed, pictures)


def test_places_beyond_the_ends_are_mirrored_as_numpy_pads() -> None:
    for size in (1, 2, 5):
        assert mirrored(np.arange(-13, size + 13), size).tolist() == np.pad(np.arange(size), 13, "symmetric").tolist()


def test_pictures_change_alike_with_and_without_masks_but_for_what_comes_in() -> None:
    """A training with masks draws the numbers that one without draws."""
    pictures, draw = discs(60), Draw(0, 1, np.arange(60))
    for entry in (Flip(), RandomResizedCrop()):
        alone = augment(pictures, [entry], draw)
        assert np.array_equal(augment_with_maps(pictures, (pictures,), [entry], draw)[0], alone)
    alone = augment(pictures, [PadCrop(3)], draw)
    beside, _ = augment_with_maps(pictures, (pictures,), [PadCrop(3)], draw)
    assert np.array_equal(beside[:, 3:-3, 3:-3], alone[:, 3:-3, 3:-3])


# From the data set to the step


@pytest.mark.parametrize(("variant", "size"), [("same", 32), ("valid", 188)])
def test_the_bundled_unet_flips_masks_too(variant: str, size: int) -> None:
    """Those of the padded form have the picture's size, those of the paper's form are its middle."""
    net = load("unet", variant=variant, input=(size, size, 1))
    (end,) = net.graph.outputs
    side = net.graph[end[1]].shape[0]
    start = (size - side) // 2
    pictures = discs(8, size, size, 1)
    masks = bright(pictures)[:, start : start + side, start : start + side].astype(np.int32)
    feed = prepare(Examples((pictures,), (masks,)), [(size, size, 1)], augment=net.recipe.augment, widths=[2])
    flipped = 0
    for item in training_batches(feed, 4, 1):
        middle = item.inputs[0][:, start : start + side, start : start + side]
        assert np.array_equal(middle[..., 0] > 128, item.targets[0] == 1)
        flipped += sum(not np.array_equal(p, pictures[i]) for p, i in zip(item.inputs[0], item.indices, strict=True))
    assert 0 < flipped < 8


def per_pixel(*augment: Augment) -> Net:
    net = load_text("input 12x12x1\nnormalize(mean=128, std=64) | conv(1x1, 2) | softmax\n")
    return replace(net, recipe=replace(net.recipe, augment=augment, epochs=8, batch=8))


@pytest.mark.slow
def test_a_network_learns_masks_under_augmentation(tmp_path: Path) -> None:
    pictures = discs(40, 12, 12, 1)
    masks = (pictures[..., 0] > 128).astype(int)
    trained = train(per_pixel(Flip(), PadCrop(4)), (pictures, masks), lr=0.1, out=tmp_path / "run")
    assert trained.rows[-1].train_top1 == 1.0
    assert trained.best.val_top1 == 1.0


def test_masks_of_pictures_that_are_cut_before_are_cut_alike() -> None:
    """Stored twice as large as the network takes them, with masks of the network's size."""
    stored = discs(40, 48, 64)
    masks = bright(stored)[:, 1::2, 1::2].astype(np.int32)
    entries = (RandomResizedCrop(0.4), Flip())
    feed = prepare(Examples((stored,), (masks,)), [(24, 32, 3)], augment=entries, widths=[2])
    assert feed.size == (24, 32)
    for item in training_batches(feed, 20, 1):
        assert ((item.inputs[0].mean(axis=-1) > 128) != item.targets[0]).mean() < 0.03
    with pytest.raises(CnnError, match="pictures of 48x64 would be cut to the network's 24x32, and their masks not"):
        prepare(Examples((stored,), (masks,)), [(24, 32, 3)], widths=[2], crop=0.8)
    with pytest.raises(CnnError, match="pictures of 48x64 would be cut to the network's 24x24, and their masks not"):
        prepare(Examples((stored,), (masks,)), [(24, 24, 3)], widths=[2])


# What cannot be moved


def refused(net: Net, loss: Loss, y: NDArray[np.generic], *entries: Augment, size: tuple[int, int] = (12, 12)) -> str:
    """What is said of a training with these targets; nothing if it is none of the augmentation's."""
    net = replace(net, recipe=replace(net.recipe, augment=entries, losses=((None, loss),)))
    data = arrays_data_set(net.graph, (discs(len(y), *size), y))
    try:
        session_of(net, data)
    except CnnError as error:
        return str(error)
    return ""


POSITION = "input 12x12x3\nflatten | dense(1)\n"
"""The column of a blob."""


@pytest.mark.parametrize("entry", [Flip(), PadCrop(2), RandomResizedCrop(), RandAugment(), AutoAugment(), Cutmix()])
def test_values_that_may_be_places_refuse_what_moves_them(entry: Augment) -> None:
    message = refused(load_text(POSITION), MeanSquaredError(), np.linspace(0, 1, 8), entry)
    assert f"`{entry.names[0]}` moves what is in a picture, and the values that `mse` holds `output` to may" in message
    assert f"remove `{entry.names[0]}` from the `augment` line" in message
    assert refused(load_text(POSITION), MeanSquaredError(), np.arange(8) // 2, entry) == message
    maps = load_text("input 12x12x3\nconv(1x1, 2)\n")
    wanted = "mixes labels" if isinstance(entry, Cutmix) else "moves what is in"
    assert wanted in refused(maps, MeanSquaredError(), np.zeros((8, 12, 12, 2)), entry)


def test_what_moves_nothing_goes_with_values() -> None:
    for entry in (ColorJitter(), Cutout(3), Mixup()):
        assert refused(load_text(POSITION), MeanSquaredError(), np.linspace(0, 1, 8), entry) == ""


def test_classes_and_shares_of_the_whole_picture_go_with_all() -> None:
    dense, one = load_text("input 12x12x3\nflatten | dense(3)\n"), load_text(POSITION)
    every = (RandomResizedCrop(), Flip(), RandAugment(), Mixup(), Cutmix())
    for net, loss, y in (
        (dense, CrossEntropy(), np.arange(8) % 3),
        (dense, CrossEntropy(), np.full((8, 3), 1 / 3)),
        (dense, MeanSquaredError(), np.arange(8) % 3),
        (dense, BinaryCrossEntropy(), np.ones((8, 3))),
        (one, BinaryCrossEntropy(), np.arange(8) % 2),
    ):
        assert refused(net, loss, y, *every) == ""


def test_classes_in_rows_of_no_known_place_refuse_what_moves_them() -> None:
    anchors = load_text("input 12x12x3\nconv(1x1, 4) | reshape(72x8)\n")
    message = refused(anchors, CrossEntropy(), np.zeros((8, 72), int), Flip())
    assert "`flip` moves what is in a picture, and it is not known where in it the 72x8 of `output` lie" in message


@pytest.mark.parametrize("entry", [PadCrop(2), RandomResizedCrop(), RandAugment(), AutoAugment()])
def test_masks_of_another_size_than_the_picture_are_mirrored_and_no_more(entry: Augment) -> None:
    half = load_text("input 12x12x3\nconv(3x3, 2, stride=2) | softmax\n")
    masks = np.zeros((8, 6, 6), int)
    assert refused(half, CrossEntropy(), masks, Flip(), Cutout(2)) == ""
    message = refused(half, CrossEntropy(), masks, Flip(), entry)
    assert f"`{entry.names[0]}` cannot move masks of 6x6 as it moves pictures of 12x12" in message
    # A word of five letters, whose order a mirror turns round.
    for size in ((6, 10), (3, 5), (8, 16)):
        assert entry_moves_all(Flip(), (12, 20), size)
        assert not entry_moves_all(entry, (12, 20), size)
    assert not entry_moves_all(Flip(), (12, 20), (12, 10))
    word = load_text("input 12x20x3\nglobalpool | dense(15) | reshape(1x5x3)\n")
    found = refused(word, CrossEntropy(), np.zeros((8, 1, 5), int), Flip(), size=(12, 20))
    assert "`flip` cannot move masks of 1x5 as it moves pictures of 12x20" in found


def test_boxes_are_not_set_into_masks() -> None:
    net = load_text("input 12x12x3\nconv(1x1, 1) | sigmoid\n")
    masks = np.zeros((8, 12, 12, 1))
    assert refused(net, BinaryCrossEntropy(), masks, Flip(), Mixup()) == ""
    message = refused(net, BinaryCrossEntropy(), masks, Flip(), Cutmix())
    assert "`cutmix` mixes labels, one a picture, and these pictures have several each" in message
