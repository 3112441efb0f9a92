"""Which tensors share one scale: those of an operator that only moves, joins, picks or averages values (`MOVES`).

TFLite's specification wants the same scale and zero point on both sides of pools, reshapes, pads, slices, resizes and
concatenations, and fixes those of softmax, logistic and tanh. Where a fixed scale would cut what else has to share it,
the fixed tensor is requantised for that operator, and for one operator alone: no value is rounded on its way to the
next, which a concatenation of a concatenation would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

import numpy as np

from cnnc.backends.tflite.quantization.scales import SOFTMAX, TANH, Range, affine, covers, union
from cnnc.tflite_file.program import Operator, Program, Quantization

MOVES: Final = (
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "GATHER",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MINIMUM",
    "PAD",
    "PADV2",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SLICE",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "TILE",
    "TRANSPOSE",
)
"""Operators whose tensors share a scale."""
FIXED: Final = {"LOGISTIC": SOFTMAX, "SOFTMAX": SOFTMAX, "TANH": TANH}
_FAR_BELOW: Final = -1e38
"""A constant below this is padding before a maximum, not a value."""


class Groups:
    """Tensors by the group that they are in; groups have a range, and some a quantisation that is given."""

    def __init__(
        self, program: Program, is_int8: frozenset[str], ranges: Mapping[str, Range], free: Set[int] = frozenset()
    ) -> None:
        """Each tensor of int8 in a group of its own.

        Args:
            program: the float program.
            is_int8: the tensors that become int8.
            ranges: the range of each of them, and of what is moved.
            free: operators, by index, whose results take no quantisation that is given.
        """
        self.program = program
        self.ranges = ranges
        self.free = free
        self.parent: dict[str, str] = {}
        self.range: dict[str, Range] = {}
        self.given: dict[str, Quantization] = {}
        self.requantised: set[tuple[int, str]] = set()
        """Operators, by index, and inputs of theirs that need another scale first."""
        moved = {name for op in program if op.kind in MOVES for name in op.outputs}
        for name in is_int8:
            self.parent[name] = name
            self.range[name] = (0.0, 0.0) if name in moved else ranges[name]

    def give(self, name: str, quantization: Quantization) -> None:
        """A tensor's quantisation, which its group has to take."""
        self.given[self.find(name)] = quantization

    def find(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def join(self, index: int, operator: Operator) -> None:
        """Let an operator of `MOVES` have one scale for all that it reads and writes."""
        inputs = [name for name in moved_inputs(operator) if name in self.parent]
        apart = [self.ranges[name] for name in moved_inputs(operator) if name not in self.parent]
        wanted = union([*apart, *(self.range[self.find(name)] for name in (*inputs, *operator.outputs))])
        given = {self.find(name): self.given[self.find(name)] for name in inputs if self.find(name) in self.given}
        fits = [found for found in given.values() if covers(found, wanted) and index not in self.free]
        for name in inputs:
            root = self.find(name)
            if root in given and given[root] not in fits[:1]:
                self.requantised.add((index, name))
            else:
                self._unite(operator.outputs[0], name)
        for name in operator.outputs[1:]:
            self._unite(operator.outputs[0], name)
        root = self.find(operator.outputs[0])
        self.range[root] = union([self.range[root], wanted])

    def find_double_rounding(self) -> set[int]:
        """The operators that requantise an input, and whose result is requantised on its way by a later one."""
        requantising = {index for index, _ in self.requantised}
        operators: set[int] = set()
        above, seen = [name for _, name in self.requantised], set[str]()
        while above:
            name = above.pop()
            index = self.program.producers.get(name)
            if name in seen or index is None or self.program.operators[index].kind not in MOVES:
                continue
            seen.add(name)
            operators |= {index} & requantising
            moved = moved_inputs(self.program.operators[index])
            above += [each for each in moved if (index, each) not in self.requantised]
        return operators

    def widen(self, name: str, scale: float) -> None:
        """Let a tensor's scale be at least so much, where it is free."""
        root = self.find(name)
        found = self.quantization(name).scale[0]
        if root not in self.given and found < scale:
            low, high = self.range[root]
            self.range[root] = (low * scale / found, high * scale / found) if high > low else (0.0, 255 * scale)

    def quantization(self, name: str) -> Quantization:
        root = self.find(name)
        return self.given[root] if root in self.given else affine(*self.range[root])

    def _unite(self, a: str, b: str) -> None:
        first, second = self.find(a), self.find(b)
        if first == second:
            return
        self.parent[second] = first
        self.range[first] = union([self.range[first], self.range[second]])
        if second in self.given:
            self.given[first] = self.given[second]


def group(
    program: Program, is_int8: frozenset[str], ranges: Mapping[str, Range], given: Mapping[str, Quantization]
) -> Groups:
    """The groups of a program's tensors.

    Args:
        program: the float program.
        is_int8: the tensors that become int8.
        ranges: the range of each of them, and of what is moved.
        given: the quantisation of inputs whose codes are theirs already, as bytes are.
    """
    free: set[int] = set()
    while True:
        groups = Groups(program, is_int8, ranges, free)
        for name, quantization in given.items():
            groups.give(name, quantization)
        for op in program:
            if op.kind in FIXED and op.outputs[0] in is_int8:
                groups.give(op.outputs[0], FIXED[op.kind])
        for index, op in enumerate(program):
            if op.kind in MOVES and op.outputs[0] in is_int8:
                groups.join(index, op)
        twice = groups.find_double_rounding() - free
        if not twice:
            return groups
        free |= twice


def moved_inputs(operator: Operator) -> tuple[str, ...]:
    """The inputs of an operator of `MOVES` that hold values, not sizes or places."""
    if operator.kind in ("CONCATENATION", "MAXIMUM", "MINIMUM"):
        return operator.inputs
    if operator.kind == "SPLIT":
        return operator.inputs[1:]
    if operator.kind == "PADV2":
        return (operator.inputs[0], operator.inputs[2])
    return operator.inputs[:1]


def constant_range(program: Program, name: str) -> Range:
    """The range of a constant, where padding before a maximum counts as nothing."""
    data = program[name].data
    assert data is not None, name
    low, high = float(np.min(data)), float(np.max(data))
    return (0.0, 0.0) if low < _FAR_BELOW else (min(low, 0.0), max(high, 0.0))
