"""TFRecord and ArrayRecord files: read as TensorFlow reads them, and every damage told with its place."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc.data.feeding.batches import evaluation_batches, training_batches
from cnnc.data.feeding.feed import Feed, Shard, prepare
from cnnc.data.sources import record_sets
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import Records, name_of
from cnnc.data.sources.folder import Options
from cnnc.data.sources.record_pictures import record_entries
from cnnc.data.sources.record_sets import has_records, load_records
from cnnc.data.sources.tf_example import read_example
from cnnc.recipe import RandomResizedCrop
from tests.support.calling import call, error_of
from tests.support.record_files import example, imagenet, jpeg, of, record

pytestmark = pytest.mark.usefixtures("data_cache")


def records_of(root: Path) -> Records:
    part = load_records(root).train
    assert isinstance(part, Records)
    return part


def pictures_of(feed: Feed) -> np.ndarray:
    return np.concatenate([b.inputs[0][b.valid] for b in evaluation_batches(feed, 4)])


# Reading


@pytest.mark.parametrize("zipped", [False, True])
def test_imagenets_records_are_a_data_set(tmp_path: Path, zipped: bool) -> None:
    said: list[str] = []
    data = load_data(str(imagenet(tmp_path / "set", zipped=zipped)), report=said.append)
    assert data.classes == ("class 1", "class 2", "class 3")
    assert (len(data.train), len(data.val), len(data.test), data.kind) == (15, 6, 6, "validation")
    assert isinstance(data.train, Records)
    assert data.train.labels.tolist() == [i % 3 for i in range(15)]
    assert "labels count from 1 in the records, and from 0 in the network" in data.notes
    assert any("decompressing train-00001-of-00003" in line for line in said) == zipped
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(i))).convert("RGB")) for i in range(15)])
    assert np.array_equal(pictures_of(prepare(data.train, [(20, 24, 3)])), wanted)


def test_tensorflow_agrees(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs tensorflow")

    def feature(value: Any) -> Any:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    root = tmp_path / "set"
    root.mkdir()
    for name, options in (("train-00000-of-00001", None), ("validation-00000-of-00001", "GZIP")):
        with tf.io.TFRecordWriter(str(root / name), options) as writer:
            for i in range(8):
                values = {"image/encoded": jpeg(i), "image/class/label": 1 + i % 2, "image/class/text": b"word"}
                features = {
                    **{name: feature(value) for name, value in values.items()},
                    "image/object/bbox/xmin": tf.train.Feature(float_list=tf.train.FloatList(value=[0.1, 0.2])),
                    "none": tf.train.Feature(),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    data = load_records(root)
    assert data.classes == ("word (0)", "word (1)")
    for part in (data.train, data.val):
        assert isinstance(part, Records)
        assert part.labels.tolist() == [0, 1] * 4
        wanted = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(i))).convert("RGB")) for i in range(8)])
        assert np.array_equal(pictures_of(prepare(part, [(20, 24, 3)])), wanted)
    # And the other way: what this file writes by hand is what TensorFlow reads.
    (tmp_path / "own").write_bytes(record(of(-3, 0)))
    (raw,) = tf.data.TFRecordDataset(str(tmp_path / "own"))
    parsed = tf.train.Example.FromString(raw.numpy())
    assert parsed.features.feature["image/class/label"].int64_list.value[0] == -3
    assert read_example(raw.numpy()).label == -3


def test_array_records_are_a_data_set(tmp_path: Path) -> None:
    module = pytest.importorskip("array_record.python.array_record_module", reason="needs the package array_record")
    root = tmp_path / "set"
    root.mkdir()
    for name, count in (("pets-train.array_record-00000-of-00002", 5), ("pets-train.array_record-00001-of-00002", 7)):
        writer = module.ArrayRecordWriter(str(root / name), "group_size:1")
        for i in range(count):
            writer.write(example({"image": jpeg(i), "label": i % 2}))
        writer.close()
    data = load_data(str(root), options=Options(held_out=0.25))
    assert (len(data.train) + len(data.val), data.kind, data.classes) == (12, "held-out", ("0", "1"))
    assert not any("count from 1" in note for note in data.notes)
    assert isinstance(data.train, Records)
    feed = prepare(data.train, [(20, 24, 3)])
    assert len(pictures_of(feed)) == len(data.train)
    path = root / "pets-train.array_record-00001-of-00002"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    assert f"cannot read `{path}`: it is cut short" in error_of(lambda: [*record_entries(path, "array_record")])
    damaged = bytearray(raw)
    damaged[len(raw) // 2 + 1] ^= 1
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    assert f"`{path}`: " in error_of(lambda: [*record_entries(path, "array_record")])


def test_shards_of_different_sizes_give_every_process_as_much(tmp_path: Path) -> None:
    part = records_of(imagenet(tmp_path / "set", sizes=(30, 1, 0, 9)))
    whole = prepare(part, [(8, 8, 3)], augment=[RandomResizedCrop()])
    feeds = [replace(whole, shard=Shard(i, 2)) for i in range(2)]
    seen = [[b.indices for b in training_batches(feed, 8, 1)] for feed in feeds]
    assert [sum(map(len, own)) for own in seen] == [20, 20]
    assert sorted(np.concatenate([*seen[0], *seen[1]]).tolist()) == list(range(40))


def test_an_index_is_kept_for_later_runs_until_a_file_changes(
    tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_sets, "_WORTH_KEEPING", 1)
    root = imagenet(tmp_path / "set")
    first, said = records_of(root), list[str]()
    again = load_records(root, report=said.append)
    assert said == []
    assert isinstance(again.train, Records)
    assert again.classes == ("class 1", "class 2", "class 3")
    for name in ("file", "offset", "length", "labels"):
        assert np.array_equal(getattr(first, name), getattr(again.train, name))
    (root / "train-00001-of-00003").write_bytes(record(of(2, 7)) * 2)
    assert len(load_records(root, report=said.append).train) == 16
    assert len(said) == 1


# Damage


def test_a_truncated_file_is_named_with_the_byte(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set")
    path = root / "train-00002-of-00003"
    whole = path.read_bytes()
    starts = [entry.extent.offset for entry in record_entries(path, "tfrecord")]
    for cut in (starts[-1] + 5, starts[-1] + 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        message = error_of(lambda: load_records(root))
        assert f"`{path}` is cut short: the record at byte {starts[-1]:,} takes" in message
        assert f"and {cut - starts[-1]:,} are left" in message
    path.write_bytes(whole[: starts[-1]])
    assert len(load_records(root).train) == 14


def test_a_file_cut_while_it_is_read_is_named_with_the_byte(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set")
    part = records_of(root)
    feed = prepare(part, [(8, 8, 3)], augment=[RandomResizedCrop()])
    path = root / "train-00002-of-00003"
    path.write_bytes(path.read_bytes()[:-40])
    message = error_of(lambda: list(training_batches(feed, 5, 1)))
    assert f"`{path}` is cut short: the record at byte {part.offset[-1]:,}" in message
    path.unlink()
    assert f"`{path}` was there when the data set was read, and is gone" in error_of(
        lambda: list(training_batches(feed, 5, 1))
    )


def test_a_zipped_file_cut_short_is_named(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set", zipped=True)
    path = root / "train-00002-of-00003"
    path.write_bytes(path.read_bytes()[:-100])
    message = error_of(lambda: load_records(root))
    assert f"cannot decompress `{path}`" in message
    assert "bytes of content" in message


def test_a_damaged_record_is_named_or_skipped(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set")
    path = root / "train-00000-of-00003"
    raw = bytearray(path.read_bytes())
    part = records_of(root)
    raw[part.offset[2] + 400] ^= 1
    path.write_bytes(raw)
    part = records_of(root)
    message = error_of(lambda: list(evaluation_batches(prepare(part, [(8, 8, 3)]), 4)))
    assert f"the record at byte {part.offset[2]:,} of `{path}` is damaged: its CRC-32C differs" in message
    feed = prepare(part, [(8, 8, 3)], augment=[RandomResizedCrop()], skip_corrupt=True)
    assert len(list(training_batches(feed, 15, 1))) == 1
    assert feed.broken == {name_of(part, 2)}
    raw[part.offset[3]] ^= 1
    path.write_bytes(raw)
    assert f"`{path}` holds no record at byte {part.offset[3]:,}" in error_of(lambda: load_records(root))


def test_what_is_no_record_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "train.tfrecord"
    path.write_bytes(b"something else entirely")
    message = error_of(lambda: load_records(tmp_path / "set"))
    assert f"`{path}` holds no record at byte 0" in message
    assert "no TFRecord file" in message
    path.write_bytes(record(b"\xff\xff no example"))
    assert "is no tf.train.Example" in error_of(lambda: load_records(tmp_path / "set"))
    path.write_bytes(b"")
    assert "hold no records" in error_of(lambda: load_records(tmp_path / "set"))


def test_missing_shards_are_named(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set")
    (root / "train-00001-of-00003").unlink()
    assert "lacks `train-00001-of-00003`" in error_of(lambda: load_data(str(root)))
    (root / "train-00000-of-00002").write_bytes(b"")
    assert "two sets of records for train" in error_of(lambda: load_data(str(root)))
    for path in root.glob("train-*"):
        path.unlink()
    assert "none to train on" in error_of(lambda: load_data(str(root)))


def test_a_network_trains_on_records_and_is_evaluated_and_compiled_on_them(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set", sizes=(12, 3))
    spec = tmp_path / "m.cnn"
    spec.write_text("model m(classes=3) {\n input 8x8x3\n flatten | dense(classes) | softmax\n}\n")
    steps = [
        ["train", str(spec), "--data", str(root), "--epochs", "1", "--workers", "2", "--out", str(tmp_path / "run")],
        ["eval", str(tmp_path / "run")],
        ["compile", str(tmp_path / "run"), "--target", "tflite-int8", "-o", str(tmp_path / "m.tflite")],
        ["data", "verify", str(root)],
    ]
    said = []
    for step in steps:
        done = call(*step)
        assert done.exit_code == 0, done.output
        said.append(done.stdout)
    assert "on the 6 validation pictures" in said[1]
    assert "21 pictures: 0 broken, 0 in two parts" in said[3]
    (root / "train-00001-of-00002").write_bytes((root / "train-00001-of-00002").read_bytes()[:-9])
    done = call("eval", str(tmp_path / "run"))
    assert done.exit_code == 1
    assert "is cut short: the record at byte" in done.output


def test_folders_of_pictures_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train.txt").touch()
    assert not has_records(tmp_path)


@pytest.mark.parametrize("room", [1.9, 2.1])
def test_a_zipped_file_wants_twice_its_size_on_the_disk(
    room: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = imagenet(tmp_path / "set", zipped=True)
    largest = max(path.stat().st_size for path in root.iterdir())
    free = SimpleNamespace(free=int(room * largest))
    monkeypatch.setattr("cnnc.data.sources.record_sets.shutil.disk_usage", lambda _: free)
    if room > 2:
        load_records(root)
    else:
        assert "there is no room to decompress" in error_of(lambda: load_records(root))
