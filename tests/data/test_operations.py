"""Operations on pictures, held to the formulas of the papers and to what Pillow calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from cnnc.data.augmentation.augment import Draw, augment
from cnnc.data.augmentation.operations import GREY, OPERATIONS, RANDOM, jitter
from cnnc.data.augmentation.policies import POLICIES
from cnnc.recipe import Augment, AutoAugment, ColorJitter, Cutout, OutOfRange, RandAugment
from tests.support.pictures import noise

Floats = NDArray[np.float64]


def apply(name: str, picture: NDArray[np.uint8], share: float, sign: int = 1) -> Floats:
    return np.asarray(OPERATIONS[name](Image.fromarray(picture), share, sign)).astype(float)


def luma(picture: Floats) -> Floats:
    """ITU-R BT.601, in whole numbers as a grey picture has."""
    grey: Floats = picture @ np.array([0.299, 0.587, 0.114])
    return np.floor(grey + 0.5)


PICTURE = noise(16, 12, 3)


# A formula for each, from tables 6 of AutoAugment (Cubuk et al. 2018) and its text


def blend(other: Callable[[Floats], Floats]) -> Callable[[Floats, float, int], Floats]:
    """Towards or away from a degenerate picture: factor 1 is the picture, 0.1 to 1.9 the range."""

    def wanted(picture: Floats, share: float, sign: int) -> Floats:
        factor = 1 + sign * 0.9 * share
        return np.clip(other(picture) * (1 - factor) + picture * factor, 0, 255)

    return wanted


def equalized(picture: Floats) -> Floats:
    """Every value's share of the pixels up to it, as a value (a histogram's integral), a channel at a time."""
    out = np.empty_like(picture)
    for c in range(3):
        channel = picture[..., c].astype(int)
        counts = np.bincount(channel.ravel(), minlength=256)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        table = (step // 2 + np.concatenate([[0], np.cumsum(counts)[:-1]])) // step
        out[..., c] = np.minimum(table, 255)[channel]
    return out


def stretched(picture: Floats) -> Floats:
    low, high = picture.min(axis=(0, 1)), picture.max(axis=(0, 1))
    out: Floats = (picture - low) * 255 / (high - low)
    return out


FORMULAS: dict[str, Callable[[Floats, float, int], Floats]] = {
    "identity": lambda x, share, sign: x,
    "invert": lambda x, share, sign: 255 - x,
    "brightness": blend(lambda x: np.zeros_like(x)),
    "contrast": blend(lambda x: np.full_like(x, np.floor(luma(x).mean() + 0.5))),
    "color": blend(lambda x: np.repeat(luma(x)[..., None], 3, axis=-1)),
    "solarize": lambda x, share, sign: np.where(x >= 256 * (1 - share), 255 - x, x),
    "posterize": lambda x, share, sign: x // 2 ** round(4 * share) * 2 ** round(4 * share),
    "auto_contrast": lambda x, share, sign: stretched(x),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_operation_is_its_formula(name: str, share: float, sign: int) -> None:
    wanted = FORMULAS[name](PICTURE.astype(float), share, sign)
    assert np.abs(apply(name, PICTURE, share, sign) - wanted).max() <= 1


def test_equalize_is_the_integral_of_the_histogram() -> None:
    picture = noise(64, 64, 3) // 3 + 20
    assert np.array_equal(apply("equalize", picture, 1.0), equalized(picture.astype(float)))


@pytest.mark.parametrize("sign", [-1, 1])
def test_sharpness_blends_with_a_smoothed_picture(sign: int) -> None:
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    x = PICTURE.astype(float)
    smooth = sum(kernel[i, j] * x[i : 14 + i, j : 10 + j] for i in range(3) for j in range(3))
    factor = 1 + sign * 0.9
    wanted = np.clip(np.rint(smooth) * (1 - factor) + x[1:-1, 1:-1] * factor, 0, 255)
    assert np.abs(apply("sharpness", PICTURE, 1.0, sign)[1:-1, 1:-1] - wanted).max() <= 1


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_translate_moves_by_a_share_of_the_side(name: str, axis: int, sign: int) -> None:
    picture = noise(40, 40, 3)
    distance = int(150 / 331 * 40 * 0.5)
    wanted = np.roll(picture, -sign * distance, axis).astype(float)
    outside = [slice(None), slice(None)]
    outside[axis] = slice(-distance, None) if sign > 0 else slice(0, distance)
    wanted[tuple(outside)] = GREY
    assert np.array_equal(apply(name, picture, 0.5, sign), wanted)


@pytest.mark.parametrize("sign", [-1, 1])
def test_shear_moves_a_row_by_its_height(sign: int) -> None:
    picture = noise(40, 40, 3)
    for name, own in (("shear_x", picture), ("shear_y", picture.transpose(1, 0, 2))):
        found = apply(name, np.ascontiguousarray(own), 1.0, sign)
        found = found if name == "shear_x" else found.transpose(1, 0, 2)
        for row in range(40):
            columns = np.floor(np.arange(40) + 0.5 + sign * 0.3 * (row + 0.5)).astype(int)
            inside = (columns >= 0) & (columns < 40)
            assert np.array_equal(found[row, inside], picture[row, columns[inside]])
            assert (found[row, ~inside] == GREY).all()


def test_rotate_turns_by_30_degrees_about_the_centre() -> None:
    picture = np.zeros((101, 101, 3), np.uint8)
    picture[50, 50:] = 255
    for sign in (-1, 1):
        found = apply("rotate", picture, 1.0, sign)[..., 0]
        rows, columns = np.nonzero(found == 255)
        angle = np.degrees(np.arctan2(50 - rows.mean(), columns.mean() - 50))
        assert angle == pytest.approx(30 * sign, abs=1)
        assert found[0, 0] == GREY


def test_nothing_happens_at_a_share_of_zero() -> None:
    for name in OPERATIONS.keys() - {"auto_contrast", "equalize", "invert"}:
        assert np.array_equal(apply(name, PICTURE, 0.0), PICTURE), name


# Colour jitter


def test_jitter_applies_its_factors() -> None:
    x = PICTURE.astype(float)
    image = Image.fromarray(PICTURE)
    bright = np.asarray(jitter(image, 1.3, 1, 1, 0, 0.0))
    assert np.abs(bright - np.clip(x * 1.3, 0, 255)).max() <= 1
    grey = np.asarray(jitter(image, 1, 1, 0.0, 0, 0.0))
    assert np.abs(grey - luma(x)[..., None]).max() <= 1
    assert np.array_equal(np.asarray(jitter(image, 1, 1, 1, 0, 0.5)), PICTURE)


@pytest.mark.parametrize("order", [0.0, 0.3, 0.99])
@pytest.mark.parametrize(
    ("factors", "enhancer"),
    [
        ((1.3, 1, 1), ImageEnhance.Brightness),
        ((1, 1.3, 1), ImageEnhance.Contrast),
        ((1, 0.6, 1), ImageEnhance.Contrast),
        ((1, 1, 1.3), ImageEnhance.Color),
    ],
)
def test_a_factor_alone_is_pillows(factors: tuple[float, float, float], enhancer: Any, order: float) -> None:
    image = Image.fromarray(PICTURE)
    (factor,) = (factor for factor in factors if factor != 1)
    assert jitter(image, *factors, 0, order) == enhancer(image).enhance(factor)


def test_hue_turns_red_to_green_and_keeps_grey() -> None:
    pixels = np.array([[[200, 20, 20], [90, 90, 90]]], np.uint8)
    turned = np.asarray(jitter(Image.fromarray(pixels), 1, 1, 1, 1 / 3, 0.0)).astype(int)
    assert np.abs(turned - [[[20, 200, 20], [90, 90, 90]]]).max() <= 4


def test_jitter_draws_its_factors_evenly_from_their_range() -> None:
    flat = np.full((2000, 1, 1, 3), 100, np.uint8)
    found = augment(flat, [ColorJitter(0.5, 0, 0, 0)], Draw(0, 1, np.arange(2000)))[:, 0, 0, 0].astype(float)
    assert (found.min(), found.max()) == (pytest.approx(50, abs=2), pytest.approx(150, abs=2))
    counts, _ = np.histogram(found, 10, (50, 150))
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


# Cutout


def test_cutout_greys_a_square_round_every_pixel_alike() -> None:
    pictures = np.zeros((6000, 8, 6, 1), np.uint8)
    grey = augment(pictures, [Cutout(4)], Draw(0, 1, np.arange(6000)))[..., 0] == GREY
    heights, widths = grey.any(axis=2).sum(axis=1), grey.any(axis=1).sum(axis=1)
    assert (heights.max(), widths.max()) == (4, 4)
    assert np.array_equal(grey.sum(axis=(1, 2)), heights * widths)
    # Centres are uniform in the picture, so at the first row only half of the square is left.
    assert (heights.min(), widths.min()) == (2, 2)
    whole = (heights == 4).mean(), (widths == 4).mean()
    assert whole == (pytest.approx(5 / 8, abs=0.03), pytest.approx(3 / 6, abs=0.03))


def test_cutout_of_floats_is_zero() -> None:
    ones = np.ones((5, 8, 8, 1), np.float32)
    assert augment(ones, [Cutout(8)], Draw(0, 1, np.arange(5))).min() == 0


# RandAugment and AutoAugment


def test_rand_augment_draws_from_the_papers_fourteen() -> None:
    assert len(RANDOM) == 14
    assert "invert" not in RANDOM
    pictures = np.repeat(noise(8, 8, 3)[None], 3000, axis=0)
    once = augment(pictures, [RandAugment(layers=1, magnitude=10)], Draw(0, 1, np.arange(3000)))
    of_each = {
        np.asarray(OPERATIONS[name](Image.fromarray(pictures[0]), 1.0, sign)).tobytes(): name
        for name in RANDOM
        for sign in (-1, 1)
    }
    counts = Counter(of_each[picture.tobytes()] for picture in once)
    assert counts.keys() == {*of_each.values()}
    assert max(counts.values()) < 3 * 3000 / 14


def test_a_policy_is_25_pairs_of_known_operations() -> None:
    for policy in POLICIES.values():
        assert len(policy) == 25
        for pair in policy:
            for name, probability, magnitude in pair:
                assert name in OPERATIONS
                assert 0 <= probability <= 1
                assert 0 <= magnitude <= 9


def test_auto_augment_applies_one_pair_with_its_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, float, int]] = []

    def noting(name: str) -> Callable[[Image.Image, float, int], Image.Image]:
        def operation(image: Image.Image, share: float, sign: int) -> Image.Image:
            used.append((name, share, sign))
            return image

        return operation

    monkeypatch.setattr("cnnc.data.augmentation.augment.OPERATIONS", {name: noting(name) for name in OPERATIONS})
    count = 20_000
    augment(np.zeros((count, 2, 2, 3), np.uint8), [AutoAugment("cifar10")], Draw(0, 1, np.arange(count)))
    wanted = dict[tuple[str, float], float]()
    for pair in POLICIES["cifar10"]:
        for name, probability, magnitude in pair:
            key = (name, magnitude / 9)
            wanted[key] = wanted.get(key, 0.0) + probability / 25 * count
    found = Counter((name, share) for name, share, _ in used)
    assert found.keys() <= wanted.keys()
    for key, number in wanted.items():
        assert abs(found[key] - number) < 6 * np.sqrt(number + 1), key
    assert np.mean([sign for *_, sign in used]) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("entry", [ColorJitter(hue=0.1), RandAugment(), AutoAugment(), AutoAugment("cifar10")])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_gets_its_own_numbers_whatever_is_beside_it(entry: Augment, channels: int) -> None:
    pictures = noise(32 * 9, 7 * channels, 1).reshape(32, 9, 7, channels)
    whole = augment(pictures, [entry], Draw(5, 2, np.arange(32)))
    assert whole.dtype == np.uint8
    for i in (0, 13, 31):
        assert np.array_equal(augment(pictures[i : i + 1], [entry], Draw(5, 2, np.array([i])))[0], whole[i])
    assert not np.array_equal(whole, augment(pictures, [entry], Draw(5, 3, np.arange(32))))


@pytest.mark.parametrize(
    ("entry", "attribute"),
    [
        (ColorJitter(brightness=1.5), "brightness"),
        (ColorJitter(hue=0.6), "hue"),
        (Cutout(0), "size"),
        (RandAugment(layers=0), "layers"),
        (RandAugment(magnitude=31), "magnitude"),
    ],
)
def test_fields_outside_their_range_are_refused(entry: Augment, attribute: str) -> None:
    with pytest.raises(OutOfRange) as caught:
        entry.validate()
    assert caught.value.attribute == attribute
