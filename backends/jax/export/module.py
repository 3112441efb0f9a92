"""A network as a Python module of its own that needs jax and nothing else: what the compiler did, to read and to keep.

    write_module(graph) -> text with `init(key)` and `apply(params, x)`

The module names what the spec names, holds the functions of `module_functions` that it calls, and computes what this
backend does at inference.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence

from cnnc.backends.jax.export import module_functions
from cnnc.backends.jax.export.code_layout import WIDTH, lay_out
from cnnc.backends.jax.export.module_body import Block, Line, Writer, without_noise
from cnnc.backends.jax.export.module_init import write_init
from cnnc.backends.jax.export.python_names import Names
from cnnc.ir import Graph, Node
from cnnc.ops import Dropout, DropPath, Input, Shape, format_shape

_OWN = frozenset(name for name, value in vars(module_functions).items() if inspect.isfunction(value))


def write_module(graph: Graph, *, weights_file: str | None = None) -> str:
    """The text of the module, as `ruff format` leaves it.

    Args:
        graph: the network, with its operators resolved.
        weights_file: the safetensors file that its description says how to read.

    Raises:
        CnnError: the graph has an operator that is not written.
    """
    arguments = dict(zip((node.name for node in graph.inputs), arguments_of(graph), strict=True))
    writer = Writer(without_noise(graph))
    body, results = writer.body(arguments)
    initial, drawing = write_init(graph)
    functions = _closed({*writer.functions, *drawing})
    parts = [
        _description(graph, arguments, weights_file),
        "\n".join(_imports(functions)),
        "Params = dict[str, dict[str, Array]]",
        "\n".join(_init(initial)),
        "\n".join(_apply(graph, arguments, body, results)),
        *("\n".join(_function(block)) for block in writer.blocks),
        *(
            inspect.getsource(getattr(module_functions, name)).rstrip()
            for name in vars(module_functions)
            if name in functions
        ),
    ]
    head, rest = parts[:3], parts[3:]
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(rest) + "\n"


def arguments_of(graph: Graph) -> list[str]:
    """The names of `apply`'s inputs, in the spec's order: their own, where they mean nothing else in Python."""
    names = Names()
    return ["x" if node.name == "input" else names.give(node.name) for node in graph.inputs]


def _description(graph: Graph, arguments: dict[str, str], weights_file: str | None) -> str:
    given = list(arguments.values())
    call = given[0] if len(given) == 1 else ", ".join(f"{name}={name}" for name in given)
    lines = [
        f"{graph.name} in plain jax, written by cnnc.",
        "",
        "    params = init(jax.random.key(0))",
        *lay_out(f"output = apply(params, {call})", 1),
        "",
        *_shapes(graph, arguments),
        "",
        *_filled(
            f"Parameters are nested by layer and array, {graph.parameter_count:,} numbers in all. `apply` computes "
            f"as at inference: batch norms by their running statistics{_noise(graph)}."
        ),
    ]
    if weights_file is not None:
        lines += ["", "To load what was trained:", "", *_loading(weights_file)]
    text = "\n".join(line.rstrip() for line in lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}\n"""'


def _noise(graph: Graph) -> str:
    return ", dropout left out" if any(isinstance(node.op, Dropout | DropPath) for node in graph) else ""


def _shapes(graph: Graph, arguments: dict[str, str]) -> Iterator[str]:
    rows = [(arguments[node.name], node.shape) for node in graph.inputs]
    rows += [(label, graph[name].shape) for label, name in graph.outputs]
    width = max(len(name) for name, _ in rows)
    for name, shape in rows:
        yield f"    {name:{width}}  ({', '.join(['batch', *map(str, shape)])})"


def _loading(weights_file: str) -> list[str]:
    return [
        "    from safetensors.numpy import load_file",
        "    params = {}",
        f'    for name, array in load_file("{weights_file}").items():',
        '        layer, _, array_name = name.rpartition(".")',
        "        params.setdefault(layer, {})[array_name] = array",
    ]


def _filled(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if len(f"{line} {word}") > WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line


def _imports(functions: set[str]) -> Iterator[str]:
    uses_lax = any("lax." in inspect.getsource(getattr(module_functions, name)) for name in functions)
    yield "import jax"
    yield "import jax.numpy as jnp"
    yield "from jax import Array, lax" if uses_lax else "from jax import Array"


def _init(lines: Sequence[Line]) -> Iterator[str]:
    yield "def init(key: Array) -> Params:"
    yield '    """First values of the parameters, by a `jax.random.key`."""'
    yield from _written(lines)
    yield "    return params"


def _apply(graph: Graph, arguments: dict[str, str], body: Sequence[Line], results: Sequence[str]) -> Iterator[str]:
    several = len(graph.outputs) > 1
    given = ", ".join(f"{name}: Array" for name in arguments.values())
    star = "*, " if len(arguments) > 1 else ""
    returned = "dict[str, Array]" if several else "Array"
    yield from lay_out(f"def apply(params: Params, {star}{given}) -> {returned}:", 0)
    outputs = ", ".join(f"`{label}`" for label, _ in graph.outputs)
    yield f'    """The outputs {outputs} of a batch."""' if several else '    """The output of a batch."""'
    for node in graph.inputs:
        yield from lay_out(_conversion(node, arguments[node.name]), 1, format_shape(node.shape))
    yield from _written(body, apart=True)
    if several:
        by_node = dict(zip(dict.fromkeys(name for _, name in without_noise(graph).outputs), results, strict=True))
        pairs = (f'"{label}": {by_node[name]}' for label, name in without_noise(graph).outputs)
        yield from lay_out(f"return {{{', '.join(pairs)}}}", 1)
    else:
        yield f"    return {results[0]}"


def _conversion(node: Node, variable: str) -> str:
    assert isinstance(node.op, Input), node
    return f"{variable} = jnp.asarray({variable}, {'int' if node.op.dtype == 'int' else 'float'})"


def _function(block: Block) -> Iterator[str]:
    given = [*(["params: Params", "name: str"] if block.owns else []), *(f"{name}: Array" for name in block.arguments)]
    results = block.lines[-1].code.count(",") + 1
    returned = "Array" if results == 1 else f"tuple[{', '.join(['Array'] * results)}]"
    yield from lay_out(f"def {block.name}({', '.join(given)}) -> {returned}:", 0)
    more = f" and {len(block.users) - 1} more" if len(block.users) > 1 else ""
    yield f'    """As `{block.users[0]}`{more}."""'
    yield from _written(block.lines)


def _written(lines: Sequence[Line], apart: bool = False) -> Iterator[str]:
    for line in lines:
        if line.code.startswith("#"):
            yield from ["", "    " + line.code] if apart else ["    " + line.code]
        else:
            yield from lay_out(line.code, line.depth, _range(line.shapes))


def _range(shapes: Sequence[Shape]) -> str:
    """The shapes that a line has where it is used: all of a few, else those of the first and the last use."""
    texts = list(dict.fromkeys(map(format_shape, shapes)))
    return " or ".join(texts) if len(texts) < 3 else f"{texts[0]} to {format_shape(shapes[-1])}"


def _closed(functions: set[str]) -> set[str]:
    """The functions, and those of `module_functions` that they call."""
    found: set[str] = set()
    waiting = set(functions)
    while waiting:
        name = waiting.pop()
        found.add(name)
        calls = re.findall(r"(?<![.\w])(\w+)\(", inspect.getsource(getattr(module_functions, name)))
        waiting |= (set(calls) & _OWN) - found
    return found
