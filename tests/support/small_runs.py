"""Small networks that tell dark pictures from light ones, and runs of them, made by the command line."""

from __future__ import annotations

from pathlib import Path

from tests.support.calling import call
from tests.support.pictures import make_tree

TEXT = """\
model tiny(classes={classes}) {{
  input 8x8x3
  normalize(mean=128, std=64) | flatten | dense(4) | relu | dense(classes) | softmax
}}

train {{
  optimizer sgd(momentum=0.9)
  schedule  constant(0.05)
  batch     8
  epochs    {epochs}
}}
"""
RECIPE = """
train {
  optimizer sgd(momentum=0.9)
  schedule  constant(0.02)
  batch     8
  epochs    3
}
"""
"""What suffices for networks of a few convolutions."""
CONVOLUTIONS = (
    """\
model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64)
  stem: conv(3x3, 8) | bn | relu | dropout(0.1)
  head: maxpool(2x2) | flatten | dense(classes) | softmax
}
"""
    + RECIPE
)
"""With something for every pass: a batch norm to fold, an activation to fuse, a dropout to leave out."""
ELU = "input 16x16x3\nstem: conv(3x3, 8) | relu\nbody: conv(3x3, 8) | elu\nglobalpool | dense(3) | softmax\n"
"""With a layer that the Edge TPU lacks."""


def dense_text(*, classes: int = 2, epochs: int) -> str:
    """A spec of two dense layers, of 782 parameters where there are two classes."""
    return TEXT.format(classes=classes, epochs=epochs)


def train_small(root: Path, text: str, *options: object, size: tuple[int, int] = (8, 8)) -> Path:
    """Puts the spec `tiny.cnn`, a tree of pictures `data`, and a `run` into a folder, and returns the folder."""
    (root / "tiny.cnn").write_text(text)
    make_tree(root / "data", {"train/dark": 12, "train/light": 12, "val/dark": 5, "val/light": 6}, size=size)
    result = call("train", root / "tiny.cnn", "--data", root / "data", "--out", root / "run", *options)
    assert result.exit_code == 0, result.output
    return root
