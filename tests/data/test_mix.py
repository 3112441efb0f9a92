"""mixup and CutMix: pictures and labels are mixed alike, and a network learns from what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, kstest  # type: ignore[import-untyped]  # ships no types

from cnnc.data.augmentation.augment import Draw
from cnnc.data.augmentation.mix import mix, partners, shares
from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.data_set import Examples
from cnnc.loading import load_text
from cnnc.recipe import Cutmix, Flip, Mixup, OutOfRange
from cnnc.training.train import train
from tests.support.pictures import make_tree, noise


def pictures(count: int, height: int = 8, width: int = 10) -> np.ndarray:
    return noise(count * height, width * 3, 1).reshape(count, height, width, 3)


def test_mixup_is_the_papers_equation() -> None:
    x, labels = pictures(64), np.arange(64, dtype=np.int32) % 7
    mixed, (target,) = mix(x, (labels,), [Mixup(0.4)], [7], Draw(1, 2, np.arange(64)), first=3)
    assert target.shape == (64, 7)
    assert target.dtype == np.float32
    np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-6)
    for i in range(64):
        share = target[i, labels[i]]
        other = i ^ 1
        assert target[i, labels[other]] == pytest.approx(1 - share, abs=1e-6)
        # Both of a pair keep the same share.
        assert target[other, labels[other]] == pytest.approx(share, abs=1e-6)
        wanted = share * x[i].astype(float) + (1 - share) * x[other]
        assert np.abs(mixed[i] - wanted).max() <= 0.51
    assert mixed.dtype == np.uint8


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_the_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    labels = np.arange(4000, dtype=np.int32) % 2
    x = np.zeros((4000, 1, 1, 1), np.uint8)
    _, (target,) = mix(x, (labels,), [Mixup(alpha)], [2], Draw(0, 1, np.arange(4000)), first=0)
    assert kstest(target[::2, 0], beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_sets_a_box_in_and_counts_its_pixels() -> None:
    x = np.stack([np.full((20, 30, 3), i, np.uint8) for i in range(200)])
    labels = np.arange(200, dtype=np.int32)
    mixed, (target,) = mix(x, (labels,), [Cutmix()], [200], Draw(0, 1, np.arange(200)), first=0)
    aspects = []
    for i in range(200):
        own, other = mixed[i, ..., 0] == i, mixed[i, ..., 0] == i ^ 1
        assert (own | other).all()
        assert target[i, i] == pytest.approx(own.mean(), abs=1e-6)
        assert target[i, i ^ 1] == pytest.approx(other.mean(), abs=1e-6)
        height, width = other.any(axis=1).sum(), other.any(axis=0).sum()
        assert other.sum() == height * width
        if height > 6:
            aspects.append(width / height)
    # The box has the picture's aspect (Yun et al. 2019, equation 2), but where a side cuts it off.
    assert np.median(aspects) == pytest.approx(1.5, abs=0.25)
    # Beta(1, 1) is uniform; boxes that are cut off leave more.
    assert 0.5 < np.mean([target[i, i] for i in range(200)]) < 0.75


def test_partners_are_neighbours() -> None:
    assert partners(6).tolist() == [1, 0, 3, 2, 5, 4]
    assert partners(5).tolist() == [1, 0, 3, 2, 3]
    assert partners(1).tolist() == [0]


def test_targets_become_shares_of_what_the_output_has() -> None:
    assert shares(np.array([2, 0], np.int32), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert shares(np.array([1, 0], np.int32), 1).tolist() == [[1], [0]]
    assert shares(np.array([[0.5, 2.0]]), 2).tolist() == [[0.5, 2.0]]


def test_both_mixes_may_follow_each_other_and_need_no_more_than_their_indices() -> None:
    data = Examples((pictures(30),), (np.arange(30, dtype=np.int32) % 3,))
    feed = prepare(data, [(8, 10, 3)], augment=[Flip(), Mixup(0.3), Cutmix()], seed=4, widths=[3])
    first, second = (list(training_batches(feed, 8, 1)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.inputs[0], other.inputs[0])
        assert np.array_equal(one.targets[0], other.targets[0])
        np.testing.assert_allclose(one.targets[0].sum(axis=1), 1, rtol=1e-5)
    assert (first[0].targets[0].max(axis=1) < 1).any()


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("dense(classes) | softmax", marks=pytest.mark.slow),
        "dense(classes)",
        pytest.param("dense(1) | sigmoid", marks=pytest.mark.slow),
    ],
)
def test_a_network_learns_from_mixed_labels(tmp_path: Path, ending: str) -> None:
    net = load_text(f"model m(classes=2) {{\n input 8x8x3\n normalize(mean=128, std=64) | flatten | {ending}\n}}\n")
    dark, light = (np.clip(pictures(60, 8, 8) // 4 + level, 0, 255).astype(np.uint8) for level in (20, 160))
    x, y = np.concatenate([dark, light]), np.repeat([0, 1], 60)
    changes = {"augment": (Mixup(0.4), Cutmix()), "epochs": 8, "batch": 20}
    if "sigmoid" in ending:
        from cnnc.recipe import BinaryCrossEntropy

        changes["losses"] = ((None, BinaryCrossEntropy()),)
    net = replace(net, recipe=replace(net.recipe, **changes))  # type: ignore[arg-type]  # fields by name
    trained = train(net, (x, y), out=tmp_path / "run")
    assert trained.best.val_top1 == 1.0
    last = trained.rows[-1]
    assert last.train_loss > 2 * last.val_loss
    assert last.train_top1 is not None
    assert last.train_top1 > 0.8


def test_a_training_does_not_depend_on_its_workers(tmp_path: Path) -> None:
    section = "train { augment random_resized_crop | flip | rand_augment | mixup | cutmix\n epochs 2\n batch 16 }"
    net = load_text(f"model m(classes=2) {{\n input 8x8x3\n flatten | dense(classes)\n}}\n{section}\n")
    tree = make_tree(tmp_path / "tree", {"a": 30, "b": 30}, size=(14, 12))
    runs = [train(net, tree, workers=workers, out=tmp_path / f"run{workers}") for workers in (1, 3)]
    one, other = ((run.folder / "weights/last.safetensors").read_bytes() for run in runs)
    assert one == other


def test_alpha_is_above_zero() -> None:
    for entry in (Mixup(0.0), Cutmix(-1.0)):
        with pytest.raises(OutOfRange):
            entry.validate()
