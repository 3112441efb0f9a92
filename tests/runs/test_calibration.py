"""Calibration data in every form, the examples that a run of arrays keeps, and files of arrays that lie or hide."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.typing import NDArray

import cnnc
from cnnc.data.sources import array_files
from cnnc.data.sources.array_files import packed, read_rows, stored_arrays
from cnnc.deployment.calibration_samples import Samples, samples_of
from cnnc.diagnostics import CnnError
from cnnc.evaluation.tflite import open_tflite
from cnnc.loading import load_text
from cnnc.runs import calibration
from cnnc.runs.folder import RunFolder
from cnnc.runs.trained import Trained, open_run
from tests.support.calling import call, error_of, good, refused
from tests.support.pictures import noise

pytestmark = pytest.mark.fault("Q7")
SIGNAL = """\
model signal {
  input signal 128x8
  input where 4
  a: signal | conv(3, 6, stride=4) | relu | globalpool
  concat(a, where) | dense(3) | softmax
}
"""
Arrays = dict[str, NDArray[Any]]


def examples(count: int, seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    signal, where = generator.normal(2, 3, (count, 128, 8)), generator.uniform(0, 1, (count, 4))
    return {"signal": signal.astype(np.float32), "where": where.astype(np.float32)}


def save(path: Path, arrays: Mapping[str, object], *, small: bool = False) -> Path:
    write = np.savez_compressed if small else np.savez
    write(path, **arrays)  # type: ignore[arg-type]  # the names are free
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network of two inputs, none of them a picture, that was trained on 200 examples in arrays."""
    folder = tmp_path_factory.mktemp("made") / "run"
    labels = np.arange(200) % 3
    cnnc.train(load_text(SIGNAL), (examples(200), labels), epochs=1, batch=32, out=folder)
    return folder


@pytest.fixture(scope="module")
def trained(run: Path) -> Trained:
    return open_run(run)


def same(found: Samples, wanted: Samples) -> bool:
    pairs = zip(found.arrays, wanted.arrays, strict=True)
    return all(np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for a, b in pairs for name in b)


# A run of arrays


def test_a_run_keeps_some_of_the_arrays_that_it_was_trained_on(run: Path) -> None:
    given = examples(200)
    with np.load(run / "calibration.npz", allow_pickle=False) as kept:
        assert sorted(kept) == ["signal", "where"]
        assert len(kept["signal"]) == 100
        places = [int(np.flatnonzero((given["where"] == row).all(axis=1))[0]) for row in kept["where"]]
        assert np.array_equal(kept["signal"], given["signal"][places])
    assert len(set(places)) == 100


def test_a_run_of_arrays_compiles_to_int8_by_itself(run: Path, empty: Path) -> None:
    """And what comes out is, on LiteRT, what the network gives."""
    words = good("compile", run, "--target", "tflite-int8", "--io", "float32", "-o", "a.tflite")
    assert words["quantization"]["samples"] == "100 training examples kept with the run"
    new = examples(40, seed=1)
    trained = open_run(run)
    wanted = np.asarray(trained.net.apply(trained.weights, new))
    model = open_tflite(Path("a.tflite"))
    (found,) = model.runner(new).values()
    error = found.reshape(wanted.shape) - wanted
    assert 10 * np.log10((wanted**2).sum() / (error**2).sum()) > 30


def test_what_is_kept_is_bounded_and_given_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = load_text("input 6x5x3\nflatten | dense(2)\n")
    pictures = noise(40 * 9, 9, 3).reshape(40, 9, 9, 3)
    data = cnnc.data.sources.arrays.arrays_data_set(net.graph, (pictures, np.arange(40) % 2))
    for limit, kept in ((1 << 20, 32), (5 * 9 * 9 * 3 + 1, 5), (9, 0)):
        monkeypatch.setattr(calibration, "_BYTES", limit)
        folder = RunFolder(tmp_path / str(kept))
        folder.path.mkdir()
        calibration.keep_examples(folder, net.graph, data, 0)
        assert folder.calibration.exists() == (kept > 0)
        if kept:
            (stored,) = stored_arrays(folder.calibration).values()
            assert (stored.shape, stored.dtype.name) == ((kept, 9, 9, 3), "uint8")


# Every form


def test_all_forms_of_the_same_data_give_the_same_samples(trained: Trained, tmp_path: Path) -> None:
    given = examples(30)
    save(tmp_path / "plain.npz", {**given, "labels": np.arange(30)})
    save(tmp_path / "small.npz", given, small=True)
    wanted = samples_of(trained, given)
    assert (wanted.what, len(wanted.arrays)) == ("30 examples in arrays", 30)
    assert wanted.notes == ("ranges are measured on all 30 examples in arrays: there are no more",)
    rows = [{name: array[i] for name, array in given.items()} for i in range(30)]
    for other in (
        str(tmp_path / "plain.npz"),
        tmp_path / "small.npz",
        (given["signal"], given["where"]),
        {name: array.astype(float) for name, array in given.items()},
        rows,
        iter(rows),
        ((row["signal"], row["where"]) for row in rows),
        ([row["signal"][None], row["where"][None]] for row in rows),
        ({name: array[i : i + 10] for name, array in given.items()} for i in (0, 10, 20)),
        wanted,
    ):
        assert same(samples_of(trained, other), wanted)
    fewer = samples_of(trained, tmp_path / "plain.npz", count=20)
    assert same(fewer, samples_of(trained, given, count=20))
    assert len(fewer.arrays) == 20


@pytest.mark.parametrize(
    ("count", "note"),
    [
        (15, "ranges are measured on only 15 examples in arrays, and the next may leave them; 100 are a safer number"),
        (16, "ranges are measured on all 16 examples in arrays: there are no more"),
        (99, "ranges are measured on all 99 examples in arrays: there are no more"),
        (100, None),
        (101, None),
    ],
)
def test_few_samples_are_noted(trained: Trained, count: int, note: str | None) -> None:
    found = samples_of(trained, examples(count))
    assert found.notes == (() if note is None else (note,))
    assert len(found.arrays) == min(count, 100)


def test_no_more_is_asked_of_an_iterable_than_is_wanted(trained: Trained) -> None:
    asked: list[Arrays] = []

    def endless() -> Iterator[Arrays]:
        while True:
            asked.append(examples(1, seed=len(asked)))
            yield asked[-1]

    assert len(samples_of(trained, endless(), count=20).arrays) == 20
    assert len(asked) == 20


def single(text: str) -> Trained:
    from cnnc import backends

    net = load_text(text)
    return Trained(net, backends.load("tflite", "random_weights").random_weights(net.graph, 0))


def test_bytes_are_pixels_and_floats_are_what_they_are(tmp_path: Path) -> None:
    trained = single("input 6x5x3\nnormalize(unit) | flatten | dense(2)\n")
    pictures = noise(20 * 6, 5, 3).reshape(20, 6, 5, 3)
    np.save(tmp_path / "bytes.npy", pictures)
    np.save(tmp_path / "floats.npy", pictures / 255)
    found = samples_of(trained, tmp_path / "bytes.npy")
    assert np.array_equal(np.concatenate([sample["input"] for sample in found.arrays]), pictures)
    assert found.arrays[0]["input"].dtype == np.uint8
    floats = samples_of(trained, tmp_path / "floats.npy").arrays[3]["input"]
    np.testing.assert_array_equal(floats[0], (pictures[3] / 255).astype(np.float32))
    larger = noise(20 * 12, 10, 3).reshape(20, 12, 10, 3)
    assert samples_of(trained, larger).arrays[0]["input"].shape == (1, 6, 5, 3)


def test_indices_stay_whole_numbers() -> None:
    trained = single("input words 7 int\nembedding(50, 4) | flatten | dense(2)\n")
    words = np.random.default_rng(0).integers(0, 50, (20, 7))
    found = samples_of(trained, words)
    assert found.arrays[0]["words"].dtype == np.int32
    assert "takes whole numbers" in error_of(lambda: samples_of(trained, words / 50))


def test_accuracy_is_measured_on_arrays_too(run: Path, empty: Path) -> None:
    """Top-1 of the float file is NumPy's count of what the network gives."""
    given, labels = examples(60, seed=3), np.arange(60) % 3
    save(Path("test.npz"), {**given, "labels": labels})
    command = ("compile", run, "--target", "tflite-int8", "-o", "a.tflite", "--calibrate", "test.npz", "--data")
    found = good(*command, "test.npz")["accuracy"]
    trained = open_run(run)
    answers = np.asarray(trained.net.apply(trained.weights, given)).argmax(axis=1)
    assert found["float_top1"] == pytest.approx((answers == labels).mean())
    assert found["data"] == "the 60 examples of test.npz"
    save(Path("none.npz"), given)
    assert "and none of the classes of `output`" in refused("labels", *command, "none.npz")
    save(Path("many.npz"), {**given, "labels": labels + 1})
    assert "goes from 1 to 3, and the outputs of `signal` stand for 0 to 2" in refused("labels", *command, "many.npz")
    save(Path("less.npz"), {**given, "labels": labels - 1})
    assert "goes from -1 to 1" in refused("labels", *command, "less.npz")
    save(Path("real.npz"), {**given, "labels": labels / 2})
    assert "is float64 of 60, and a whole number is wanted for each of 60" in refused("labels", *command, "real.npz")


# What does not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("where"), "holds the arrays `signal`, and none for the input `where` of `signal`"),
        (
            lambda a: a.update(where=a["where"][:, :3]),
            "`where` in `{path}` holds examples of 3 in float32, and the input",
        ),
        (lambda a: a.update(signal=a["signal"][:7]), "hold 7 examples for `signal`, 20 examples for `where`"),
        (lambda a: a.update(where=np.full((20, 4), np.nan)), "`where` in `{path}` holds values that are not finite"),
        (lambda a: a.update(where=np.array(["a"] * 20)), "`where` in `{path}` holds text"),
        (lambda a: a.update(where=a["where"].astype(complex)), "`where` in `{path}` holds complex128, and numbers"),
        (lambda a: a.update(where=np.float32(3)), "`where` in `{path}` has the shape (), and the first axis counts"),
        (lambda a: a.update(where=a["where"][:0]), "`where` in `{path}` has the shape (0, 4)"),
        (lambda a: a.update(where=np.asfortranarray(a["where"])), "`where` in `{path}` is stored column by column"),
        (lambda a: [a.update({k: np.ones_like(v)}) for k, v in list(a.items())], "are the same"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    change: Callable[[Arrays], object], words: str, run: Path, tmp_path: Path
) -> None:
    path, given = tmp_path / "a.npz", examples(20)
    change(given)
    save(path, given)
    command = ("compile", run, "--target", "tflite-int8", "-o", tmp_path / "a.tflite", "--calibrate", path)
    result = call(*command)
    assert result.exit_code == 1
    assert words.format(path=path) in result.stderr
    assert not (tmp_path / "a.tflite").exists()


def test_data_that_is_none_is_named(trained: Trained, tmp_path: Path) -> None:
    assert "there is no file" in error_of(lambda: samples_of(trained, tmp_path / "gone.npz"))
    np.save(tmp_path / "one.npy", np.zeros((20, 128, 8)))
    assert "holds one array, and none for the input `signal`" in error_of(
        lambda: samples_of(trained, tmp_path / "one.npy")
    )
    (tmp_path / "words.npy").write_text("hello")
    assert "cannot read" in (said := error_of(lambda: samples_of(trained, tmp_path / "words.npy")))
    assert ": EOF" in said  # and not `eOF`
    assert "the calibration data gives no examples" in error_of(lambda: samples_of(trained, []))
    assert "and not int" in error_of(lambda: samples_of(trained, 7))
    assert "`signal` holds Python objects, and numbers are wanted" in error_of(
        lambda: samples_of(trained, [(np.full((128, 8), None), np.zeros(4))])
    )
    assert "`where` holds text, and numbers are wanted" in error_of(
        lambda: samples_of(trained, [(np.zeros((128, 8)), np.full(4, "7"))])
    )
    message = error_of(lambda: samples_of(trained, [{"signal": np.zeros((128, 7)), "where": np.zeros(4)}]))
    assert "example 0 of the calibration data has 128x7 for the input `signal`, which takes 128x8" in message


def test_an_input_that_never_varies_is_told(trained: Trained) -> None:
    given = examples(20)
    found = samples_of(trained, {**given, "where": np.zeros_like(given["where"])})
    assert "all values of `where` are the same in these samples, and others will be cut off" in found.notes
    assert not any("are the same" in note for note in samples_of(trained, given).notes)


# Files that lie


def test_pickles_are_not_read(trained: Trained, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    np.save(tmp_path / "trap.npy", np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "trap.npz", signal=np.array([Trap()], object), where=np.zeros((1, 4)), allow_pickle=True)
    for name in ("trap.npy", "bare.npy", "bare.npz", "trap.npz"):
        error_of(lambda name=name: samples_of(trained, tmp_path / name))  # type: ignore[misc]  # a name of each
    assert not (tmp_path / "sprung").exists()
    assert "holds Python objects" in error_of(lambda: samples_of(trained, tmp_path / "trap.npz"))


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_sizes_that_are_not_there_are_not_believed(tmp_path: Path) -> None:
    path, trained = tmp_path / "a.npy", single("input 128x8\nflatten | dense(2)\n")
    for content in (
        header((1 << 50, 128, 8)),
        header((1 << 62, 1 << 62)) + bytes(64),
        header((20, 128, 8)) + bytes(17),
        header((-3, 4)),
        b"\x93NUMPY\x01\x00\xf6\x03" + b"(" * 1014,
        b"\x93NUMPY\x09\x00v\x00" + b" " * 118,
        b"",
    ):
        path.write_bytes(content)
        assert str(path) in error_of(lambda: samples_of(trained, path))
    path.write_bytes(header((1 << 50, 128, 8)) + bytes(4096))
    assert "is said to be float32 of (1125899906842624, 128, 8), and has 4,096 bytes" in error_of(
        lambda: samples_of(trained, path)
    )


def test_a_zip_that_unpacks_to_more_than_it_can_hold_is_not_read(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save(path, dict(signal=np.zeros((20, 128, 8), np.float32), where=np.zeros((20, 4), np.float32)), small=True)
    raw = path.read_bytes()
    size = len(header((20, 128, 8))) + 20 * 128 * 8 * 4
    path.write_bytes(raw.replace(size.to_bytes(4, "little"), (1 << 31).to_bytes(4, "little")))
    assert f"cannot read `{path}`: `signal.npy` is said to unpack to 2,147,483,648 bytes" in error_of(
        lambda: samples_of(trained, path)
    )


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_messages(seed: int, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    generator = np.random.default_rng(seed)
    for small in (False, True):
        whole = save(path, examples(3), small=small).read_bytes()
        for _ in range(12):
            raw = bytearray(whole)
            for place in generator.integers(0, len(raw), 4):
                raw[place] ^= int(generator.integers(1, 256))
            path.write_bytes(bytes(raw[: generator.integers(1, len(raw) + 1)]))
            with suppress(CnnError):
                samples_of(trained, path)


def test_rows_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {"file": noise(30, 4, 3), "a b/c": np.arange(90, dtype=">i2").reshape(30, 3), "self": np.zeros((30, 1))}
    (tmp_path / "a.npz").write_bytes(packed(arrays))
    assert packed(arrays) == packed(dict(arrays))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    rows = np.array([0, 7, 8, 29])
    for name, stored in stored_arrays(tmp_path / "a.npz").items():
        assert np.array_equal(read_rows(stored, rows), arrays[name][rows])
    assert array_files.is_array_file("X.NPZ")
    assert not array_files.is_array_file("mnist")
