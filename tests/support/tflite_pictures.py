"""Small TFLite programs that take pictures, and files of them that describe themselves or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnnc.tflite_file.metadata import Description, InputNote, OutputNote, attach, label_files, pack
from cnnc.tflite_file.program import File, Operator, Program
from cnnc.tflite_file.write import write_file
from tests.support.tflite_programs import constant, one_operator, tensor

CLASSES = ("dark", "light")


def identity(kind: str, scale: float | None = None, zero: int = 0) -> Program:
    """What goes into a picture's input comes out as it is stored."""
    shape = constant("shape", np.array([1, 12], np.int32))
    return one_operator(
        "RESHAPE", [tensor("x", (1, 2, 2, 3), kind, scale, zero), shape], tensor("y", (1, 12), kind, scale, zero)
    )


def brightness(*, swapped: bool = False, softmax: bool = True) -> Program:
    """A float classifier of 8x8 pictures: dark below a mean of 128, and light above."""
    sign = -1 if swapped else 1
    kernel = constant("kernel", np.array([[-0.02] * 3, [0.02] * 3], np.float32) * sign)
    bias = constant("bias", np.array([0.06 * 128, -0.06 * 128], np.float32) * sign)
    pooled, logits, shares = tensor("mean", (1, 1, 1, 3)), tensor("logits", (1, 2)), tensor("shares", (1, 2))
    x = tensor("image", (1, 8, 8, 3))
    window = {"stride_w": 1, "stride_h": 1, "filter_w": 8, "filter_h": 8, "padding": "VALID"}
    operators = [
        Operator("AVERAGE_POOL_2D", ("image",), ("mean",), window),
        Operator("FULLY_CONNECTED", ("mean", "kernel", "bias"), ("logits",)),
        Operator("SOFTMAX", ("logits",), ("shares",), {"beta": 1.0}),
    ]
    tensors = {each.name: each for each in (x, pooled, kernel, bias, logits, shares)}
    if not softmax:
        del operators[-1], tensors["shares"]
    end = operators[-1].outputs
    return Program("brightness", tensors, tuple(operators), ("image",), end, ("picture",), ("class",))


def write(path: Path, program: Program, description: Description | None = None) -> Path:
    """Writes a file, and where it describes itself its labels into it, and returns its path."""
    file = File((program,))
    data = write_file(file if description is None else attach(file, description))
    path.write_bytes(data if description is None else pack(data, label_files(description)))
    return path


def described(labels: tuple[str, ...] = CLASSES, **note: Any) -> Description:
    """The description of a file of one picture and one output; `note` is what it says of the picture."""
    return Description("m", inputs=(InputNote("image", is_image=True, **note),), outputs=(OutputNote("o", "", labels),))
