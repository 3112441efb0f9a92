"""A run's folder: claimed once, read back to the same network, and never mistaken for another's."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import yaml
from PIL import Image

from cnnc import ops
from cnnc.diagnostics import CnnError, Source
from cnnc.files import write_atomically
from cnnc.loading import Spec, load_spec, load_text
from cnnc.net import Net
from cnnc.overrides import Overrides
from cnnc.recipe import Cosine, CrossEntropy, MeanSquaredError, Mixup, PadCrop, Recipe, RmsProp, Step
from cnnc.recipe.yaml_form import recipe_from_words, recipe_in_words
from cnnc.runs.data_note import DataNote
from cnnc.runs.events import Row
from cnnc.runs.folder import RunFolder, claim
from cnnc.runs.run_record import graph_hash, write_record
from cnnc.runs.trained import open_run
from cnnc.training.initial_weights import transfer_weights
from cnnc.training.plots import draw_batch, draw_confusion, draw_curves
from cnnc.weights.weights_file import load_weights, save_weights
from tests.support.calling import error_of
from tests.support.networks import sequential

SPEC = """\
import "blocks.cnn"
model tiny(classes=2) {
  input 4x4x1
  twice(6) | flatten | dense(classes) | softmax
}
variants {
  wide: width=2
}
"""
BLOCKS = "block twice(filters: channels) {\n  2 x (conv(3x3, filters) | relu)\n}\n"
NOTE = DataNote("digits", None, 0.2, 0, ("no", "yes"), 10, 5)


def arrays_of(net: Net, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    return {
        node.name: {short: generator.normal(size=w.shape).astype(np.float32) for short, w in weights.items()}
        for node in net.graph
        if (weights := net.graph.weights(node))
    }


def make_run(path: Path, net: Net, *, which: tuple[str, ...] = ("best", "last")) -> RunFolder:
    """A finished run's folder."""
    folder = claim(net.name, path)
    write_record(folder, replace(net, recipe=Recipe(precision="bf16")), NOTE)
    for name in which:
        metadata = {"model": net.name, "graph_sha256": graph_hash(net.graph), "epoch": "3"}
        save_weights(folder.path / "weights" / f"{name}.safetensors", arrays_of(net), metadata)
    return folder


def spec_net(tmp_path: Path, overrides: Overrides | None = None) -> Net:
    """The network of a spec in two files."""
    (tmp_path / "blocks.cnn").write_text(BLOCKS)
    spec = Spec(Source(str(tmp_path / "tiny.cnn"), SPEC), tmp_path, "tiny")
    return load_spec(spec, overrides or Overrides())


# Claiming


def test_runs_are_numbered_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [claim("mlp").path.as_posix() for _ in range(3)] == [f"runs/mlp/exp{i}" for i in (1, 2, 3)]
    (tmp_path / "runs/mlp/exp7").mkdir()
    (tmp_path / "runs/mlp/expensive").mkdir()
    assert claim("mlp").path.name == "exp8"
    assert claim("vgg").path.as_posix() == "runs/vgg/exp1"


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: claim("mlp").path, range(64)))
    assert len(set(claimed)) == 64


def test_a_folder_whose_name_is_no_text_holds_no_run(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"run\xff")
    assert "whose name is no UTF-8 text" in error_of(lambda: claim("m", place))
    assert not place.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "it is a file" in error_of(lambda: claim("m", tmp_path / "file"))
    assert f"`{tmp_path / 'file'}` is a file" in error_of(lambda: claim("m", tmp_path / "file" / "run"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def fail(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert "no space left on device" in error_of(lambda: write_atomically(path, "new"))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# Reading back


@pytest.mark.parametrize(
    "overrides",
    [
        Overrides(),
        Overrides(variant="wide"),
        Overrides(width=3.0, depth=2.0),
        Overrides(input=((None, (6, 6, 2)),), settings=(("classes", "2"),)),
        Overrides(phi=1.5),
    ],
    ids=repr,
)
def test_a_run_is_read_back_as_the_network_that_was_trained(tmp_path: Path, overrides: Overrides) -> None:
    net = spec_net(tmp_path, overrides)
    make_run(tmp_path / "run", net)
    (tmp_path / "blocks.cnn").unlink()
    run = open_run(tmp_path / "run")
    assert run.net.graph == net.graph
    assert run.data == NOTE
    assert run.epoch == 3
    assert run.net.recipe.precision == "bf16"
    wanted = arrays_of(net)
    assert all((run.weights[n][s] == a).all() for n, arrays in wanted.items() for s, a in arrays.items())


def test_a_network_without_a_spec_is_read_back_from_its_graph(tmp_path: Path) -> None:
    net = sequential((4, 4, 1), ops.Conv((3,), 2), ops.Flatten(), ops.Dense(2))
    make_run(tmp_path / "run", net)
    assert open_run(tmp_path / "run").net.graph == net.graph


def test_a_nameless_spec_keeps_the_name_of_its_file(tmp_path: Path) -> None:
    net = load_spec(Spec(Source("mine.cnn", "input 4\ndense(2)\n"), None, "mine"), Overrides())
    assert net.name == "mine"
    make_run(tmp_path / "run", net)
    assert open_run(tmp_path / "run").net.name == "mine"


def test_args_say_every_setting_in_words() -> None:
    words = recipe_in_words(Recipe(schedule=Cosine(0.1, 2.0)))
    assert words["schedule"] == {"cosine": {"peak": 0.1, "warmup": 2.0, "floor": 0.0}}
    assert words["loss"]["every output"]["cross_entropy"]["label_smoothing"] == 0.0
    assert words["precision"] == "f32"


def test_a_recipe_comes_back_from_its_words() -> None:
    recipe = Recipe(
        data="digits",
        augment=(PadCrop(2), Mixup()),
        losses=(("a", CrossEntropy(0.1)), ("b", MeanSquaredError())),
        optimizer=RmsProp(momentum=0.9),
        schedule=Step(0.1, 1.0, (3.0, 6.0)),
        batch=7,
        weights="w.safetensors",
        freeze=("stem", "*.bn1"),
        unfreeze=((5, "stem"),),
        rates=(("head", 0.5),),
        accumulate=2,
        clip=1.0,
        ema=0.99,
        patience=3,
        remat=True,
        batch_norm="local",
        on_nan="skip",
    )
    written = yaml.safe_load(yaml.safe_dump(recipe_in_words(recipe)))
    assert recipe_from_words(written, "digits") == recipe
    assert recipe_from_words(recipe_in_words(Recipe()), None) == Recipe()
    for damaged in ({**written, "batchh": 1}, {**written, "optimizer": {"sdg": {}}}, {**written, "schedule": 3}):
        with pytest.raises(CnnError, match=r"args\.yaml"):
            recipe_from_words(damaged, None)
    with pytest.raises(CnnError, match="`momentum` must be from 0 up to 1"):
        recipe_from_words({"optimizer": {"sgd": {"momentum": 2}}}, None)


# Folders that are no run


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    assert "does not exist" in error_of(lambda: open_run(tmp_path / "gone"))
    (tmp_path / "file").touch()
    assert "is a file" in error_of(lambda: open_run(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    message = error_of(lambda: open_run(tmp_path / "empty"))
    assert "is no run, or an incomplete one: it lacks spec.cnn and args.yaml" in message
    make_run(tmp_path / "runs/tiny/exp1", spec_net(tmp_path))
    message = error_of(lambda: open_run(tmp_path / "runs/tiny"))
    assert "holds runs, and one is wanted" in message
    assert "exp1" in message


def test_a_run_without_its_weights_is_said(tmp_path: Path) -> None:
    make_run(tmp_path / "run", spec_net(tmp_path), which=("last",))
    message = error_of(lambda: open_run(tmp_path / "run"))
    assert "error[run]" in message
    assert "`weights/best.safetensors` is missing" in message
    assert "--last" in message
    assert open_run(tmp_path / "run", last=True).epoch == 3


def test_weights_of_another_run_are_refused(tmp_path: Path) -> None:
    net = spec_net(tmp_path)
    other = load_text(SPEC.replace('import "blocks.cnn"\n', BLOCKS).replace("relu", "relu").replace("tiny", "other"))
    make_run(tmp_path / "run", net)
    make_run(tmp_path / "other", other)
    (tmp_path / "other/weights/best.safetensors").replace(tmp_path / "run/weights/best.safetensors")
    message = error_of(lambda: open_run(tmp_path / "run"))
    assert "were trained for another network than the run's spec describes" in message
    assert "they are those of `other`" in message


def test_a_run_with_another_runs_spec_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", spec_net(tmp_path))
    folder.spec.write_text(folder.spec.read_text().replace("twice(6)", "twice(12)"))
    message = error_of(lambda: open_run(tmp_path / "run"))
    assert "error[run]" in message
    assert "was trained for another network than its spec describes" in message


def test_a_comment_in_a_runs_spec_changes_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", spec_net(tmp_path))
    folder.spec.write_text("# the best so far\n" + folder.spec.read_text())
    assert open_run(tmp_path / "run").epoch == 3


@pytest.mark.fault("Q3")
def test_a_run_from_before_grouped_convolutions_were_depthwise_is_read(tmp_path: Path) -> None:
    net = load_text(
        "model old {\n input 5x5x4\n depthwise(3x3) | conv(3x3, 8, groups=in.channels) | globalpool | dense(2)\n}"
    )
    conv = net.graph["conv1"]
    grouped = ops.Conv((3, 3), 8, (1, 1), dilation=(1, 1), groups=4, bias=True)
    old = replace(
        net,
        graph=replace(
            net.graph, nodes=tuple(replace(node, op=grouped) if node is conv else node for node in net.graph)
        ),
    )
    folder = make_run(tmp_path / "run", old)
    kept = arrays_of(old)["conv1"]["kernel"]
    assert kept.shape == (3, 3, 1, 8)
    found = open_run(folder.path).weights["conv1"]["kernel"]
    assert found.shape == (3, 3, 4, 2)
    np.testing.assert_array_equal(found.reshape(kept.shape), kept)
    started, _ = transfer_weights(net.graph, folder.path, arrays_of(net, seed=1))
    np.testing.assert_array_equal(started["conv1"]["kernel"], found)


@pytest.mark.parametrize(
    "content", ["", "- 1\n", "model: 3\n", "{", "[" * 20_000, "!!python/object/apply:os.getcwd []\n"]
)
def test_broken_settings_are_said_and_never_run(tmp_path: Path, content: str) -> None:
    folder = make_run(tmp_path / "run", spec_net(tmp_path))
    folder.args.write_text(content)
    assert "args.yaml" in error_of(lambda: open_run(tmp_path / "run"))


def test_unknown_settings_are_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", spec_net(tmp_path))
    args = yaml.safe_load(folder.args.read_text())
    folder.args.write_text(yaml.safe_dump({**args, "overrides": {"heights": 2}}))
    assert "overrides: `heights` is unknown" in error_of(lambda: open_run(tmp_path / "run"))
    folder.args.write_text(yaml.safe_dump({**args, "data": {"name": "digits"}}))
    assert "does not say what the run was trained on" in error_of(lambda: open_run(tmp_path / "run"))


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"classes": [1, 2]}}, "`classes` cannot be `[1, 2]`"),
        ({"data": {"held_out": 1e300}}, "`held_out` cannot be `1e+300`"),
        ({"overrides": {"width": "evil"}}, "`width` cannot be `evil`"),
        ({"train": {"epochs": "many"}}, "`epochs` cannot be `many`"),
        ({"train": {"optimizer": {"sgd": {"momentum": [1]}}}}, "`momentum` cannot be `[1]`"),
    ],
)
def test_settings_of_another_type_are_said(tmp_path: Path, change: dict[str, dict[str, Any]], message: str) -> None:
    folder = make_run(tmp_path / "run", spec_net(tmp_path))
    args = yaml.safe_load(folder.args.read_text())
    folder.args.write_text(yaml.safe_dump({**args, **{key: {**args[key], **values} for key, values in change.items()}}))
    assert message in error_of(lambda: open_run(tmp_path / "run"))


# Weights


def test_weights_are_what_safetensors_reads(tmp_path: Path) -> None:
    net = spec_net(tmp_path)
    weights = arrays_of(net)
    save_weights(tmp_path / "a.safetensors", weights, {"b": "2", "a": "1"})
    read = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert set(read) == {f"{node}.{short}" for node, arrays in weights.items() for short in arrays}
    for node, arrays in weights.items():
        for short, array in arrays.items():
            np.testing.assert_array_equal(read[f"{node}.{short}"], array)
    save_weights(tmp_path / "b.safetensors", weights, {"a": "1", "b": "2"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    _, metadata = load_weights(tmp_path / "a.safetensors", net.graph)
    assert metadata == {"a": "1", "b": "2"}


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    net = spec_net(tmp_path)
    path = tmp_path / "a.safetensors"
    weights = arrays_of(net)
    first, *_, last = weights
    weights[first]["kernel"] = weights[first]["kernel"][..., :5]
    del weights[last]["bias"]
    weights["ghost"] = {"kernel": np.zeros(3, np.float32)}
    save_weights(path, weights, {})
    message = error_of(lambda: load_weights(path, net.graph))
    assert "error[weights]" in message
    assert f"the file lacks `{last}.bias`" in message
    assert "the file has unexpected `ghost.kernel`" in message
    assert f"the file has in another shape `{first}.kernel (3x3x1x5, not 3x3x1x6)`" in message


def test_many_missing_weights_are_counted(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"x": {"y": np.zeros(1, np.float32)}}, {})
    message = error_of(lambda: load_weights(tmp_path / "a.safetensors", spec_net(tmp_path).graph))
    assert "and 1 more" in message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_truncated_file_of_weights_is_said(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    net = spec_net(tmp_path)
    save_weights(path, arrays_of(net), {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = error_of(lambda: load_weights(path, net.graph))
    assert "error[weights]: cannot read" in message
    assert "cut short" in message


def test_a_missing_file_of_weights_and_a_pickle_are_said(tmp_path: Path) -> None:
    graph = spec_net(tmp_path).graph
    assert "there is no file" in error_of(lambda: load_weights(tmp_path / "gone.safetensors", graph))
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04\x95" + bytes(200))
    assert "only safetensors are read" in error_of(lambda: load_weights(tmp_path / "a.safetensors", graph))


def test_headers_that_lie_are_said(tmp_path: Path) -> None:
    graph = spec_net(tmp_path).graph
    for header in ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, {"a": 3}):
        text = json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        assert "cannot read" in error_of(lambda: load_weights(tmp_path / "a.safetensors", graph))


# Pictures


@pytest.mark.usefixtures("drawn_pictures")
def test_names_of_every_kind_can_be_drawn(tmp_path: Path) -> None:
    names = ["a$b$c_{", "\u732b", "x" * 60, "", "<&>"]
    draw_confusion(tmp_path / "c.png", "m", np.arange(25).reshape(5, 5), names)
    draw_batch(tmp_path / "b.png", np.zeros((5, 4, 4, 2), np.float32), names)
    for name in ("c.png", "b.png"):
        with Image.open(tmp_path / name) as image:
            image.verify()


@pytest.mark.usefixtures("drawn_pictures")
def test_curves_without_accuracy_and_large_confusions_can_be_drawn(tmp_path: Path) -> None:
    rows = [Row(epoch, 1.0, 0.1, 1 / epoch, None, 2 / epoch, None, None) for epoch in range(1, 40)]
    draw_curves(tmp_path / "r.png", "m", rows)
    draw_confusion(tmp_path / "c.png", "m", np.eye(300, dtype=np.int64), [str(i) for i in range(300)])
    draw_curves(tmp_path / "again.png", "m", rows)
    assert (tmp_path / "r.png").read_bytes() == (tmp_path / "again.png").read_bytes()
