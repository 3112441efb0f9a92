"""Which operators the one part of a model that goes to the Edge TPU holds."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.tflite_file.program import ABSENT, Program


def first_part(program: Program, mappable: Sequence[bool]) -> frozenset[int]:
    """The indices of the mappable operators of the first part, as TFLite divides a graph for a delegate.

    Operators are taken in order: one joins the part that is being made if it is of its sort (mappable or not) and all
    that it reads is computed; when none can, the next part begins with the first that can run. The Edge TPU gets the
    first part that is mappable; what comes later is "more than one subgraph".

    Source: tensorflow/lite/graph_info.cc, PartitionGraphIntoIndependentNodeSubsets.
    """
    made = {name for operator in program for name in operator.outputs}
    ready = {name for name in program.tensors if name not in made} | {ABSENT}
    left = list(range(len(program.operators)))
    while left:
        taken: list[int] = []
        rest: list[int] = []
        for i in left:
            fits = not taken or mappable[i] == mappable[taken[0]]
            if fits and all(name in ready for name in program.operators[i].inputs):
                taken.append(i)
                ready.update(program.operators[i].outputs)
            else:
                rest.append(i)
        if not taken or mappable[taken[0]]:
            return frozenset(taken)
        left = rest
    return frozenset()
