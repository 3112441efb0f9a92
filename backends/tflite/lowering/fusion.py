"""Activations into the operators before them, reshapes into dense layers and each other, and dead operators out.

relu(conv(x)) is what CONV_2D computes when told to, so RELU and RELU6 that alone read a convolution, a dense layer, a
sum or a product become its fused activation. Pools and concatenations keep theirs apart: the Edge TPU wants it so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from cnnc.tflite_file.program import ABSENT, Operator, Program

FUSED: Final = ("RELU", "RELU6")
_HOSTS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "SUB", "CONV_3D")


def fuse(program: Program, islands: Collection[str] = ()) -> Program:
    """The program after all of these. The fused operator writes the activation's tensor.

    Args:
        program: a float program.
        islands: the tensors whose operators have no int8 form.
    """
    return merge_flat(drop_dead(merge_reshapes(fuse_activations(program))), islands)


def fuse_activations(program: Program) -> Program:
    """Activations as options of their producers."""
    operators: list[Operator | None] = [*program.operators]
    for i, operator in enumerate(program):
        if operator.kind not in FUSED:
            continue
        (read,) = operator.inputs
        at = program.producers.get(read)
        if at is None or read in program.outputs or len(program.consumers[read]) > 1:
            continue
        host = operators[at]
        if host is not None and host.kind in _HOSTS and host.options["activation"] == "NONE":
            options = {**host.options, "activation": operator.kind}
            # What the two compute together is the activation's node; an error of either is found through it.
            operators[at] = replace(host, outputs=operator.outputs, options=options, origin=operator.origin)
            operators[i] = None
    return _with(program, [operator for operator in operators if operator is not None])


def merge_reshapes(program: Program) -> Program:
    """A reshape of a reshape reads the first one's input."""
    operators = list(program.operators)
    for i, operator in enumerate(operators):
        if operator.kind == "RESHAPE":
            at = program.producers.get(operator.inputs[0])
            if at is not None and operators[at].kind == "RESHAPE":
                operators[i] = replace(operator, inputs=(operators[at].inputs[0], operator.inputs[1]))
    return _with(program, operators)


def merge_flat(program: Program, islands: Collection[str] = ()) -> Program:
    """A dense layer reads the features of one place, as a global pool gives them, without a reshape to a row.

    FULLY_CONNECTED flattens what it reads, on the Edge TPU as well: Google's compiled YAMNet has it so. The tensor
    keeps the reshape's name, which is that of a node.
    """
    operators: list[Operator | None] = [*program.operators]
    tensors = dict(program.tensors)
    for i, operator in enumerate(program):
        (row,) = operator.outputs if operator.kind == "RESHAPE" else ("",)
        if not row or row in program.outputs or program[row].shape != (1, program[row].size):
            continue
        place = operator.inputs[0]
        readers = [program.operators[at].kind for at in program.consumers[row]]
        at = program.producers.get(place)
        if set(readers) != {"FULLY_CONNECTED"} or at is None or place in islands or place in program.outputs:
            continue
        shape, host = program[place].shape, operators[at]
        if (
            host is None
            or len(host.outputs) > 1
            or shape != (1, 1, 1, program[row].size)
            or len(program.consumers[place]) > 1
        ):
            continue
        operators[at] = replace(host, outputs=(row,), origin=operator.origin)
        operators[i] = None
        tensors[row] = replace(program[row], shape=shape)
    kept = [operator for operator in operators if operator is not None]
    return program if len(kept) == len(operators) else _with(replace(program, tensors=tensors), kept)


def drop_dead(program: Program) -> Program:
    """Without the operators that no output needs, and without tensors that nothing reads or writes."""
    wanted = set(program.outputs)
    kept = []
    for operator in reversed(program.operators):
        if wanted.intersection(operator.outputs):
            kept.append(operator)
            wanted.update(operator.inputs)
    return _with(program, kept[::-1])


def _with(program: Program, operators: list[Operator]) -> Program:
    used = {*program.inputs, *program.outputs}
    for operator in operators:
        used.update(operator.inputs)
        used.update(operator.outputs)
    used.discard(ABSENT)
    tensors = {name: tensor for name, tensor in program.tensors.items() if name in used}
    return replace(program, tensors=tensors, operators=tuple(operators))
