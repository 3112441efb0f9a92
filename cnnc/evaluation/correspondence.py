"""Which tensor of a TFLite file holds which node's value: by name, and by the names of outputs."""

from __future__ import annotations

from math import prod
from pathlib import Path

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ops import Input, format_shape
from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import Program, Tensor


def match_tensors(program: Program, graph: Graph, path: Path) -> dict[str, Tensor]:
    """The tensors that hold a node's value by the node's name, in the order of the operators that write them.

    Raises:
        CnnError: the file is of another network than the graph.
    """
    ports = [program[name] for name in program.inputs]
    inputs = [node.shape for node in graph.inputs]
    if [_sizes(port.shape) for port in ports] != [_sizes(shape) for shape in inputs]:
        wanted = ", ".join(map(format_shape, inputs))
        raise _another(path, graph, f"it takes {', '.join(str(list(p.shape)) for p in ports)}, and the run {wanted}")
    found: dict[str, Tensor] = {}
    for tensor, name in nodes_by_tensor(program, graph).items():
        # Of a node's tensors the first: others are of another type.
        found.setdefault(name, program[tensor])
    within = [name for operator in program for name in operator.outputs if name not in program.outputs]
    if not found or (within and not any(name in graph.by_name for name in within)):  # an `output` is in any network
        raise _another(path, graph, f"none of its {len(within)} inner tensors has the name of a layer of the run's")
    for name, holder in found.items():
        shape = graph[name].shape
        if holder.size != prod(shape):
            raise _another(
                path, graph, f"its `{holder.name}` is {list(holder.shape)}, and the run's {format_shape(shape)}"
            )
    return found


def nodes_by_tensor(program: Program, graph: Graph) -> dict[str, str]:
    """The node whose value it holds for each tensor that has one's name, or is the output that the node is."""
    labels = dict(graph.outputs)
    ends = {name: labels.get(label, "") for name, label in zip(program.outputs, program.output_names, strict=False)}
    written = [name for operator in program for name in operator.outputs]
    found = {name: ends.get(name) or name for name in written}
    return {
        name: node for name, node in found.items() if node in graph.by_name and not isinstance(graph[node].op, Input)
    }


def entrances(program: Program, graph: Graph) -> dict[str, str]:
    """The tensors of 8 bits in which a file's operators find an input, with its node: as it comes, or converted."""
    found = dict(zip(program.inputs, (node.name for node in graph.inputs), strict=True))
    for operator in program:
        if operator.inputs[0] in found and is_conversion(program, operator):
            found[operator.outputs[0]] = found[operator.inputs[0]]
    eight = {name: node for name, node in found.items() if program[name].type in ("INT8", "UINT8")}
    read = {name for operator in program if not is_conversion(program, operator) for name in operator.inputs}
    return {name: node for name, node in eight.items() if name in read}


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _another(path: Path, graph: Graph, reason: str) -> CnnError:
    return CnnError.of(
        "tflite",
        f"`{path}` was not compiled from a run of `{graph.name}`: {reason}",
        help="cnnc compile RUN --target tflite-int8 -o model.tflite",
    )
