"""Feature vectors of pictures, against the network cut off at the layer."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnc.backends import reference
from cnnc.data.pictures.decode import decode
from cnnc.evaluation.embedding import classifier_input, embed, named_layer
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.runs.trained import Trained
from cnnc.weights.weights_file import load_weights, save_weights
from tests.support.calling import call, error_of
from tests.support.pictures import make_tree, truncate

SPEC = """\
model tiny(classes=3) {
  input 8x8x3
  normalize(mean=128, std=64)
  stem: conv(3x3, 4) | bn | relu
  body: conv(3x3, 6, stride=2) | bn | relu
  globalpool
  dropout(0.2)
  head: dense(classes)
  softmax
}
"""


def net() -> Net:
    return load_text(SPEC, "tiny.cnn")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embed")
    (root / "tiny.cnn").write_text(SPEC)
    save_weights(root / "w.safetensors", net().init(3), {})
    make_tree(root / "data", {"dark": 40, "light": 30})
    return root


def of_oracle(layer: str, paths: list[Path]) -> NDArray[np.float64]:
    """The layer's values by the NumPy reference, of the network cut off there."""
    graph = net().graph
    end = [node.name for node in graph].index(layer)
    cut = replace(graph, nodes=graph.nodes[: end + 1], outputs=(("y", layer),))
    pictures = np.stack([decode(path, (8, 8), 3) for path in paths]).astype(np.float64)
    values = reference.run(cut, net().init(3), {"input": pictures})[layer]
    return np.asarray(values, np.float64)


def test_features_are_what_enters_the_classifier(made: Path, tmp_path: Path) -> None:
    one = made / "data/light/002.png"
    start = ("embed", made / "tiny.cnn", "--weights", made / "w.safetensors", one, made / "data")
    result = call(*start, "-o", tmp_path / "f.npz")
    assert result.exit_code == 0, result.output
    assert "71 vectors of 6 numbers from `globalpool1`" in result.stdout
    paths = [one, *sorted((made / "data").rglob("*.png"))]
    with np.load(tmp_path / "f.npz") as found:
        assert found["paths"].tolist() == [str(path) for path in paths]
        assert str(found["layer"]) == "globalpool1"
        assert found["features"].dtype == np.float32
        np.testing.assert_allclose(found["features"], of_oracle("globalpool1", paths), rtol=1e-4, atol=1e-5)
        features = found["features"]
    assert call(*start, "-o", tmp_path / "f.csv").exit_code == 0
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", *(f"f{i}" for i in range(6))]
    assert [row[0] for row in rows[1:]] == [str(path) for path in paths]
    assert np.array_equal(np.array([row[1:] for row in rows[1:]], np.float32), features)


def test_of_a_map_it_is_the_mean_over_positions(made: Path, tmp_path: Path) -> None:
    start = ("embed", made / "tiny.cnn", "--weights", made / "w.safetensors", made / "data/dark")
    result = call(*start, "-o", tmp_path / "f.npz", "--layer", "stem")
    assert "40 vectors of 4 numbers from `stem.relu1`, means over the positions of 8x8x4" in result.stdout
    values = of_oracle("stem.relu1", sorted((made / "data/dark").glob("*.png"))).mean(axis=(1, 2))
    with np.load(tmp_path / "f.npz") as found:
        np.testing.assert_allclose(found["features"], values, rtol=1e-4, atol=1e-5)


def test_pictures_that_cannot_be_decoded_are_left_out_or_refused(made: Path, tmp_path: Path) -> None:
    data = make_tree(tmp_path / "data", {"dark": 4, "light": 2})
    truncate(data / "dark/001.png", 0.4)
    start = ("embed", made / "tiny.cnn", "--weights", made / "w.safetensors", data, "-o", tmp_path / "f.npz")
    result = call(*start)
    assert "cannot decode" in result.stderr
    assert not (tmp_path / "f.npz").exists()
    result = call(*start, "--skip-corrupt")
    assert "left out, as it cannot be decoded: 1 of them" in result.stderr
    with np.load(tmp_path / "f.npz") as found:
        assert [Path(path).name for path in found["paths"]] == ["000.png", "002.png", "003.png", "000.png", "001.png"]


def test_layers_that_are_not_there_are_refused(made: Path, tmp_path: Path) -> None:
    graph = net().graph
    assert classifier_input(graph) == "globalpool1"
    assert named_layer(graph, "body") == "body.relu1"
    message = error_of(lambda: named_layer(graph, "bodi"))
    assert "`tiny` has no layer `bodi`" in message
    assert "did you mean `body`?" in message
    assert "has no layer `input`" in error_of(lambda: named_layer(graph, "input"))
    pooled = load_text(SPEC.replace("  dropout(0.2)\n  head: dense(classes)\n  softmax\n", ""))
    assert "does not end in a dense layer" in error_of(lambda: classifier_input(pooled.graph))
    trained = Trained(net(), load_weights(made / "w.safetensors", net().graph)[0])
    assert "there is no picture" in error_of(lambda: embed(trained, [tmp_path / "none.png"]))


def test_what_does_not_go_together_is_said(made: Path, tmp_path: Path) -> None:
    start = ("embed", made / "tiny.cnn", made / "data", "-o")
    assert "it is not said which weights it has" in call(*start, tmp_path / "f.npz").stderr
    weights = ("--weights", made / "w.safetensors")
    assert "must end in .npz or .csv" in call(*start, tmp_path / "f.txt", *weights).stderr
    assert "there is no folder" in call(*start, tmp_path / "no/f.npz", *weights).stderr
    assert "`--last` goes with a run" in call(*start, tmp_path / "f.npz", *weights, "--last").stderr
    assert "is a file, and features" in call("embed", made / "w.safetensors", made / "data", "-o", "f.npz").stderr
    assert "goes with a SPEC" in call("embed", made / "data", made / "data", "-o", "f.npz", *weights).stderr
