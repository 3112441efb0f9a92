"""The graph as text and back: a node a line, in order, with every attribute, its shape and the repeats it belongs to.

    graph lenet
    pixels = input(shape=(28, 28, 1), dtype="float") -> 28x28x1
    body.0.conv = conv(pixels, kernel=(5, 5), filters=6, ...) -> 28x28x6 in body[0] of 2
    body.1.conv = conv(...) -> 28x28x6 in body[1] of 2 sharing body.0.conv
    output body = body.1.relu

The last of these uses the weights of the first. A name that is no plain word is written in quotes. What `print_graph`
writes, `read_graph` reads back equal; only origins are lost. The text is data: nothing in it is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from cnnc.diagnostics import CnnError, Source, Span, did_you_mean
from cnnc.ir.graph import Graph, Node, Repeat, is_same
from cnnc.ir.text_tokens import PLAIN, Line, read_lines
from cnnc.ops import OPS, Input, Op, OpError, Shape, format_shape
from cnnc.ops.signature import REQUIRED, Type, signature_of

_OPS: Final[Mapping[str, type[Op]]] = {**OPS, "input": Input}
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "none": None}
_DEEPEST: Final = 2
"""Parentheses inside one another that an attribute may have."""


def print_graph(graph: Graph) -> str:
    """The text of a graph, ending in a line end."""
    lines = [f"graph {_name(graph.name)}"]
    lines.extend(map(_print_node, graph.nodes))
    lines.extend(f"output {_name(label)} = {_name(node)}" for label, node in graph.outputs)
    return "\n".join(lines) + "\n"


def read_graph(text: str, source_name: str = "<graph>") -> Graph:
    """The graph that a text states. Raises CnnError, with the line, for a text that states none."""
    source = Source(source_name, text)
    name: str | None = None
    nodes: dict[str, Node] = {}
    outputs: list[tuple[str, str]] = []
    for line in read_lines(source):
        if name is None:
            line.mark("graph")
            name = line.name("the graph's name")
        elif line.has("output") and line.following.kind in ("name", "string"):
            outputs.append(_read_output(line, nodes, outputs))
        else:
            node = _read_node(line, nodes)
            nodes[node.name] = node
        line.end()
    end = Span(source, len(text), len(text))
    if name is None:
        raise CnnError.of("syntax", "the text is empty", end, help="a graph begins with `graph` and its name")
    if not outputs:
        raise CnnError.of("output", "the graph has no output", end, help="end it with `output <name> = <node>`")
    return Graph(name, tuple(nodes.values()), tuple(outputs))


def _print_node(node: Node) -> str:
    attributes = (f"{f.name}={_print_value(getattr(node.op, f.name))}" for f in fields(node.op) if f.init)
    arguments = ", ".join([*map(_name, node.inputs), *attributes])
    repeats = ", ".join(f"{_name(r.group)}[{r.index}] of {r.count}" for r in node.repeats)
    place = f" in {repeats}" if repeats else ""
    owner = f" sharing {_name(node.weights_of)}" if node.weights_of else ""
    return f"{_name(node.name)} = {node.op.name}({arguments}) -> {format_shape(node.shape)}{place}{owner}"


def _name(name: str) -> str:
    return name if PLAIN.fullmatch(name) else json.dumps(name)


def _print_value(value: Any) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(map(_print_value, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    assert isinstance(value, int | float), value
    return repr(value)


def _read_output(line: Line, nodes: Mapping[str, Node], outputs: list[tuple[str, str]]) -> tuple[str, str]:
    line.mark("output")
    span = line.token.span
    label = line.name("the output's name")
    if label in dict(outputs):
        raise CnnError.of("duplicate", f"the output `{label}` is defined twice", span)
    line.mark("=")
    return label, _read_reference(line, nodes)


def _read_reference(line: Line, nodes: Mapping[str, Node]) -> str:
    span = line.token.span
    name = line.name("a node's name")
    if name not in nodes:
        raise CnnError.of("name", f"no node above is named `{name}`", span, help=did_you_mean(name, nodes))
    return name


def _read_node(line: Line, nodes: Mapping[str, Node]) -> Node:
    first = line.token.span
    name = line.name("a node's name or `output`")
    if name in nodes:
        raise CnnError.of("duplicate", f"the node `{name}` is defined twice", first)
    line.mark("=")
    op_span = line.token.span
    cls = _read_op(line)
    inputs, attributes = _read_arguments(line, cls, nodes)
    span = line.since(op_span)
    line.mark("->")
    shape_span = line.token.span
    shape = _read_shape(line)
    repeats = _read_repeats(line)
    shapes = [nodes[each].shape for each in inputs]
    op, found = _inferred(_make(cls, attributes, span), shapes, span)
    if found != shape:
        message = f"`{name}` has the shape {format_shape(found)}, not {format_shape(shape)}"
        raise CnnError.of("shape", message, shape_span)
    return Node(name, op, inputs, shape, repeats, weights_of=_read_owner(line, op, shapes, nodes))


def _read_owner(line: Line, op: Op, shapes: Sequence[Shape], nodes: Mapping[str, Node]) -> str | None:
    """The node whose weights this one uses, if it says so."""
    if not line.has("sharing"):
        return None
    line.mark("sharing")
    span = line.token.span
    owner = nodes[_read_reference(line, nodes)]
    if owner.weights_of:
        message = f"`{owner.name}` has no weights of its own: it shares those of `{owner.weights_of}`"
        raise CnnError.of("weights", message, span)
    if not is_same(op.weights(*shapes), owner.op.weights(*(nodes[each].shape for each in owner.inputs))):
        raise CnnError.of("weights", f"`{owner.name}` has other weights than these", span)
    return owner.name


def _read_op(line: Line) -> type[Op]:
    token = line.take("name", "an operator")
    if token.text not in _OPS:
        help = did_you_mean(token.text, _OPS)
        raise CnnError.of("name", f"no operator is named `{token.text}`", token.span, help=help)
    return _OPS[token.text]


def _read_arguments(line: Line, cls: type[Op], nodes: Mapping[str, Node]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The inputs, which come first, and the attributes."""
    inputs: list[str] = []
    attributes: dict[str, Any] = {}
    types = {parameter.name: parameter.type for parameter in signature_of(cls)}
    line.mark("(")
    while not line.has(")"):
        token = line.token
        if line.following.text == "=":
            line.take("name", "an attribute")
            line.mark("=")
            if token.text not in types:
                message = f"`{cls.names[0] if cls.names else 'input'}` has no attribute `{token.text}`"
                raise CnnError.of("argument", message, token.span, help=did_you_mean(token.text, types))
            if token.text in attributes:
                raise CnnError.of("argument", f"`{token.text}` is given twice", token.span)
            attributes[token.text] = _read_typed(line, token.text, types[token.text])
        elif attributes:
            line.fail("an attribute")
        else:
            inputs.append(_read_reference(line, nodes))
        if not line.has(")"):
            line.mark(",")
    line.mark(")")
    return tuple(inputs), attributes


def _read_typed(line: Line, name: str, type: Type) -> Any:
    start = line.token.span
    value = _read_value(line)
    if not ((value is None and type.optional) or _fits(value, type)):
        span = line.since(start)
        raise CnnError.of("type", f"`{name}` must be {type}, found `{span.text}`", span)
    return value


def _read_value(line: Line, depth: int = 0) -> Any:
    if line.token.kind == "string":
        return line.string()
    if line.token.text in _WORDS:
        return _WORDS[line.name("a value")]
    if line.has("("):
        return _read_tuple(line, depth + 1)
    number = line.take("number", "a value").text
    return float(number) if "." in number or "e" in number else int(number)


def _read_tuple(line: Line, depth: int) -> tuple[Any, ...]:
    if depth > _DEEPEST:
        line.fail("a value")
    values: list[Any] = []
    line.mark("(")
    while not line.has(")"):
        values.append(_read_value(line, depth))
        if not line.has(")"):
            line.mark(",")
    line.mark(")")
    return tuple(values)


def _read_shape(line: Line) -> Shape:
    if line.has("("):
        line.mark("(")
        line.mark(")")
        return ()
    if line.token.kind == "dims":
        return tuple(map(int, line.take("dims", "a shape").text.split("x")))
    return (line.count("a shape, as `56x56x64`"),)


def _read_repeats(line: Line) -> tuple[Repeat, ...]:
    repeats: list[Repeat] = []
    while line.has("," if repeats else "in"):
        line.mark(line.token.text)
        group = line.name("the name of a group of repeats")
        line.mark("[")
        index = line.count("the number of the repeat")
        line.mark("]")
        line.mark("of")
        span = line.token.span
        count = line.count("the number of repeats")
        if index >= count:
            raise CnnError.of("value", f"repeat {index}, counted from 0, is beyond {count} repeats", span)
        repeats.append(Repeat(group, index, count))
    return tuple(repeats)


def _make(cls: type[Op], attributes: Mapping[str, Any], span: Span) -> Op:
    missing = [p.name for p in signature_of(cls) if p.default is REQUIRED and p.name not in attributes]
    if missing:
        raise CnnError.of("argument", f"`{missing[0]}` is missing", span)
    op = cls(**attributes)
    try:
        op.validate()
    except OpError as error:
        raise CnnError.of(error.code, error.message, span, help=error.help) from error
    return op


def _inferred(op: Op, shapes: list[Shape], span: Span) -> tuple[Op, Shape]:
    """The operator resolved for its inputs, and its output's shape."""
    low, high = op.arity
    if len(shapes) < low or (high is not None and len(shapes) > high):
        wanted = f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        raise CnnError.of(
            "arity", f"`{op.name}` takes {wanted} input{'' if wanted == '1' else 's'}, found {len(shapes)}", span
        )
    try:
        resolved = op.resolve(*shapes)
        return resolved, resolved.infer(*shapes)
    except OpError as error:
        raise CnnError.of(error.code, error.message, span, help=error.help) from error


def _fits(value: Any, type: Type) -> bool:
    return value in type.choices if type.kind == "choice" else _FITS[type.kind](value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or _is_int(value)


def _is_dims(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_int, value))


def _is_padding(value: Any) -> bool:
    if not isinstance(value, tuple):
        return value in ("same", "valid")
    return all(_is_dims(pair) and len(pair) == 2 for pair in value)


_FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "int": _is_int,
    "channels": _is_int,
    "float": _is_float,
    "bool": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "dims": _is_dims,
    "floats": lambda value: isinstance(value, tuple) and all(map(_is_float, value)),
    "padding": _is_padding,
}
