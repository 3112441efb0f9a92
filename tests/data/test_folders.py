"""Folders of pictures as people have them: parts by their names, links, what cannot be read, and what is no class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from cnnc.data.sources.data_set import Files
from cnnc.data.sources.folder import load_all, load_folder, load_loose
from cnnc.data.sources.parts import part_folders
from cnnc.data.sources.record_sets import has_records
from tests.support.calling import call, error_of, refused
from tests.support.pictures import make_tree, noise

parts = pytest.mark.fault("D2")
links = pytest.mark.fault("D4")


def tree(root: Path, *folders: str) -> Path:
    return make_tree(root, dict.fromkeys(folders, 2))


# Parts


@parts
@pytest.mark.parametrize(
    ("train", "other", "kind"),
    [
        ("Train", "Val", "validation"),
        ("TRAIN", "VAL", "validation"),
        ("training", "validation", "validation"),
        ("Training", "Testing", "test"),
        ("train", "Valid", "validation"),
        ("train", "TEST", "test"),
    ],
)
def test_parts_are_known_by_all_their_names(train: str, other: str, kind: str, tmp_path: Path) -> None:
    data = load_folder(tree(tmp_path, f"{train}/cat", f"{train}/dog", f"{other}/cat", f"{other}/dog"))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.val), data.kind) == (4, 4, kind)
    assert isinstance(data.train, Files)
    assert {path.parent.parent.name for path in data.train.paths} == {train}


@parts
def test_parts_of_which_none_is_to_train_on_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, "val/cat", "val/dog", "test/cat", "test/dog")
    message = error_of(lambda: load_folder(tmp_path))
    assert f"`{tmp_path}` holds `test` and `val`, and no pictures to train on" in message
    assert f"to evaluate, name the part itself: {tmp_path / 'test'}" in message
    assert "no pictures to train on" in call("train", "mlp", "--data", tmp_path).stderr
    assert len(load_all(tmp_path / "test")) == 4


@parts
def test_a_part_that_is_there_twice_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat", "val/cat", "validation/cat")
    assert "holds two folders for val: `val` and `validation`" in error_of(lambda: load_folder(tmp_path))


@parts
def test_one_level_too_deep_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path, "pets/cat", "pets/dog")
    message = error_of(lambda: load_folder(tmp_path))
    assert "holds one folder, `pets`, which holds no pictures but the folders `cat`, `dog`" in message
    assert f"name that folder: {tmp_path / 'pets'}" in message
    assert load_folder(tmp_path / "pets").classes == ("cat", "dog")
    whole = tree(tmp_path / "whole", "data/train/cat", "data/train/dog", "data/val/cat", "data/val/dog")
    assert "the folders `train`, `val`" in error_of(lambda: load_folder(whole))
    deep = tree(tmp_path / "deep", "train/images/cat", "train/images/dog", "val/images/cat", "val/images/dog")
    assert "holds one folder, `images`" in error_of(lambda: load_folder(deep))


@parts
@pytest.mark.parametrize("second", [("b/cat", "b/dog"), ("b/cat",), ("b/cat", "b/dog", "b/owl")])
def test_folders_that_hold_the_same_folders_are_no_classes(second: tuple[str, ...], tmp_path: Path) -> None:
    tree(tmp_path, "a/cat", "a/dog", *second)
    message = error_of(lambda: load_folder(tmp_path))
    assert f"`a` and `b` in `{tmp_path}` are not classes: each holds the same folders, `cat`" in message
    assert "parts of a data set are called train, val and test" in message
    assert "are not classes" in error_of(lambda: load_all(tmp_path))
    assert "are not classes" in refused("data", "data", "stats", tmp_path)


@parts
def test_classes_may_have_folders_in_them(tmp_path: Path) -> None:
    """Of names of their own, or the same ones beside pictures."""
    own = tree(tmp_path / "own", "cat/indoors", "cat/outdoors", "dog/park", "dog/beach")
    assert load_folder(own).classes == ("cat", "dog")
    beside = tree(tmp_path / "beside", "cat", "cat/more", "dog", "dog/more")
    assert len(load_all(beside)) == 8


@parts
def test_a_class_may_be_called_as_a_part_is(tmp_path: Path) -> None:
    """Of vehicles: a train has pictures, where the part has folders."""
    assert load_folder(tree(tmp_path, "Bus", "Car", "Train")).classes == ("Bus", "Car", "Train")
    assert part_folders(tmp_path) == {}
    loose = tree(tmp_path / "loose", "train", "val")
    assert "holds pictures, but no class folders" in error_of(lambda: load_folder(loose))


@parts
@pytest.mark.parametrize(
    "name", ["Train.tfrecord", "pets-VALIDATION.tfrecord-00000-of-00001", "training-00000-of-00001"]
)
def test_files_of_records_are_known_by_the_same_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert has_records(tmp_path)


# Links, and what cannot be read


@links
def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = tree(tmp_path / "elsewhere", "more", "owls")
    root = tree(tmp_path / "root", "cat", "dog")
    (root / "cat/linked").symlink_to(elsewhere / "more")
    (root / "owl").symlink_to(elsewhere / "owls")
    files = load_folder(root).train
    assert isinstance(files, Files)
    assert load_folder(root).classes == ("cat", "dog", "owl")
    whole = load_all(root)
    assert sorted(str(path.relative_to(root)) for path in whole.paths) == sorted(
        f"{folder}/{i:03}.png" for folder in ("cat", "cat/linked", "dog", "owl") for i in range(2)
    )
    assert len(load_loose(root)) == 8


@links
def test_a_link_to_a_picture_is_one(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    (root / "cat/002.png").symlink_to(root / "dog/001.png")
    assert len(load_all(root)) == 5


@links
@pytest.mark.parametrize("target", ["", "cat", "cat/inner"])
def test_a_circle_is_refused(target: str, tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "cat/inner", "dog")
    (root / "cat/inner/back").symlink_to(root / target)
    message = error_of(lambda: load_all(root))
    assert f"`{root / 'cat/inner/back'}" in message
    assert "leads back to" in message
    assert "remove that link" in message


@links
def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    (root / "cat/self").symlink_to(root / "cat/self")
    assert "cat/self" in error_of(lambda: load_all(root))


@pytest.fixture(params=["cat/inner", "cat", ""])
def closed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, somewhere in a tree or its root, that may not be read; the superuser may, so he is told that not."""
    root = tree(tmp_path / "root", "cat", "cat/inner", "dog")
    folder = root / request.param
    scandir = os.scandir

    def guarded(path: str | Path) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder and os.geteuid() == 0:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    folder.chmod(0)
    monkeypatch.setattr(os, "scandir", guarded)
    yield folder
    folder.chmod(0o755)


@links
def test_a_folder_that_may_not_be_read_is_named(closed: Path, tmp_path: Path) -> None:
    for action in (load_folder, load_all, load_loose):
        assert f"cannot read `{closed}`: permission denied" in error_of(partial(action, tmp_path / "root"))
    for command in ("stats", "verify"):
        assert f"cannot read `{closed}`: permission denied" in refused("data", "data", command, tmp_path / "root")


@links
def test_pictures_come_in_the_order_of_names_a_folder_before_those_in_it(tmp_path: Path) -> None:
    """The order that runs of old were trained in."""
    root = tree(tmp_path, "b", "b/a", "a", "a/z")
    for name in ("b/zz.png", "b/a.png"):
        Image.fromarray(noise(4, 4, 3)).save(root / name)
    (root / "b/.hidden").mkdir()
    Image.fromarray(noise(4, 4, 3)).save(root / "b/.hidden/x.png")
    found = [str(path.relative_to(root)) for path in load_all(root).paths]
    assert found == [
        *("a/000.png", "a/001.png", "a/z/000.png", "a/z/001.png"),
        *("b/000.png", "b/001.png", "b/a.png", "b/zz.png", "b/a/000.png", "b/a/001.png"),
    ]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "there is no folder" in call("data", "stats", tmp_path / "gone").stderr
    (tmp_path / "file").touch()
    assert "is a file, and a folder of pictures is wanted" in call("data", "stats", tmp_path / "file").stderr
