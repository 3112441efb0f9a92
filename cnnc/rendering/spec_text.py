"""A graph as a spec: blocks, stages and scaling written out. What it prints describes the same network again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from cnnc.elaboration.names import FORMS, operator_words
from cnnc.ir import Graph, Node
from cnnc.ops import OPS, BatchNorm, Input, format_shape
from cnnc.ops.signature import signature_of
from cnnc.recipe import SETTINGS, Entry, Recipe, Setting
from cnnc.rendering.calls import write_call, write_value

_WIDTH = 118


def print_spec(graph: Graph, recipe: Recipe | None = None) -> str:
    """The text of a model with every layer of the graph, and a train section for the recipe.

    A line is a chain of layers; results that are read elsewhere have labels made from their names. A layer whose
    weights others use is one `shared` layer, which has a name.
    """
    labels = _labels(graph)
    shared = _shared(graph, {*labels.values(), *(label for label, _ in graph.outputs)})
    name = _word(graph.name)
    lines = [f"model {name} {{"]
    lines.extend(f"  {word} = shared({_call(graph[owner], graph, bias=True)})" for owner, word in shared.items())
    group: object = None
    for chain in _chains(graph):
        repeats = chain[-1].repeats
        if repeats and repeats != group:
            lines.append(f"  # {repeats[-1].group}.{repeats[-1].index}")
        group = repeats
        lines.extend(_line(chain, graph, labels, shared))
    lines.extend(
        f"  {label}: {_source(node, graph, labels)}"
        for label, node in graph.outputs
        if label not in ("output", labels[node])
    )
    if [label for label, _ in graph.outputs] != ["output"]:
        lines.append(f"  output {', '.join(label for label, _ in graph.outputs)}")
    lines.append("}")
    if recipe is not None and recipe != Recipe():
        lines.extend(["", *_train(recipe)])
    return "\n".join(lines) + "\n"


def _labels(graph: Graph) -> dict[str, str]:
    """A label for every node: the first of an output's own names, else one made from the node's name, unique.

    None hides a layer or a word that is printed below it.
    """
    labels: dict[str, str] = {}
    hiding = {*OPS, *FORMS, *operator_words()}
    for label, output in graph.outputs:
        if label not in ("output", *hiding) and not isinstance(graph[output].op, Input):
            labels.setdefault(output, label)
    taken = {*hiding, *(label for label, _ in graph.outputs)}
    for node in graph:
        if node.name not in labels:
            labels[node.name] = _free(_word(node.name), taken)
            taken.add(labels[node.name])
    return labels


def _shared(graph: Graph, taken: set[str]) -> dict[str, str]:
    """A name for every layer whose weights others use, by its node, in the graph's order."""
    owners = {node.weights_of for node in graph}
    shared: dict[str, str] = {}
    for node in graph:
        if node.name in owners:
            shared[node.name] = _free(f"{_word(node.name)}_shared", taken)
            taken.add(shared[node.name])
    return shared


def _free(word: str, taken: set[str]) -> str:
    """The word, numbered where it is taken."""
    found, number = word, 2
    while found in taken:
        found, number = f"{word}_{number}", number + 1
    return found


def _word(name: str) -> str:
    """A name as the language can write it; the turns of repeats that share names stay apart by their numbers."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{word}" if word[0].isdigit() or word in _KEYWORDS else word


_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "model block scale variants train expect import input output if else add concat mul in true false not and or x "
        "stage repeat progress",
    )
)


def _chains(graph: Graph) -> Iterator[list[Node]]:
    """The graph cut into chains, in which each node but the first reads the one before it and nobody else does."""
    shown = {node for _, node in graph.outputs}
    chain: list[Node] = []
    followers: dict[str, list[Node]] = {}
    chains: list[list[Node]] = []
    for node in graph:
        before = node.inputs[0] if len(node.inputs) == 1 else None
        joins = before in followers and len(graph.consumers[before]) == 1 and before not in shown
        if joins and before is not None and graph[before].repeats == node.repeats:
            chain = followers.pop(before)
            chain.append(node)
        else:
            chain = [node]
            chains.append(chain)
        if not isinstance(node.op, Input):
            followers[node.name] = chain
    yield from chains


def _line(chain: Sequence[Node], graph: Graph, labels: dict[str, str], shared: dict[str, str]) -> Iterator[str]:
    first = chain[0]
    if isinstance(first.op, Input):
        name = "" if labels[first.name] == "_input" else f"{labels[first.name]} "
        yield f"  input {name}{format_shape(first.shape)}{' int' if first.op.dtype == 'int' else ''}"
        return
    sources = [_source(name, graph, labels) for name in first.inputs]
    calls = [shared.get(node.owner) or _call(node, graph) for node in chain]
    items = [f"{first.op.name}({', '.join(sources)})"] if len(sources) > 1 else [*sources, calls[0]]
    items.extend(calls[1:])
    line = f"  {labels[chain[-1].name]}: {items[0]}"
    for item in items[1:]:
        if len(line) + len(item) + 3 > _WIDTH:
            yield line
            line = f"      | {item}"
        else:
            line += f" | {item}"
    yield line


def _source(name: str, graph: Graph, labels: dict[str, str]) -> str:
    return "in" if labels[name] == "_input" and isinstance(graph[name].op, Input) else labels[name]


def _call(node: Node, graph: Graph, *, bias: bool = False) -> str:
    """The layer with the attributes that differ from their defaults, and with `bias` whether it has one."""
    own = getattr(node.op, "bias", None)
    is_automatic = isinstance(own, bool) and not bias and own == _automatic_bias(node, graph)
    return write_call(node.op, ("bias",) if is_automatic else ())


def _automatic_bias(node: Node, graph: Graph) -> bool:
    after = graph.consumers[node.name]
    is_output = any(name == node.name for _, name in graph.outputs)
    return not (len(after) == 1 and isinstance(after[0].op, BatchNorm) and not is_output)


_ALWAYS = ("optimizer", "schedule", "batch", "epochs")
_ALIGNED = (*("data", "augment", "loss"), *_ALWAYS, *("seed", "precision"))
_TRANSFER = ("path", "patterns", "epoch_by_label", "rate_by_label")


def _train(recipe: Recipe) -> Iterator[str]:
    """The entries that differ from the defaults, and some that a reader looks for; those of a transfer come last."""
    yield "train {"
    for setting in sorted(SETTINGS.values(), key=lambda each: each.kind in _TRANSFER):
        value = getattr(recipe, setting.field)
        if setting.name in _ALWAYS or value != setting.default:
            width = 9 if setting.name in _ALIGNED else 0
            yield f"  {setting.name:<{width}} {_written(value, setting)}"
    yield "}"


def _written(value: Any, setting: Setting) -> str:
    """The value of a setting, not its default, as the train section has it."""
    match setting.kind:
        case "name":
            return _quoted(value)
        case "path":
            return f'"{value}"'
        case "switch":
            return "on" if value else "off"
        case "call":
            return _entry(value)
        case "calls":
            return " | ".join(map(_entry, value)) or "none"
        case "loss_by_output":
            return ", ".join(f"{output}: {_entry(loss)}" if output else _entry(loss) for output, loss in value)
        case "patterns":
            return ", ".join(map(_quoted, value))
        case "epoch_by_label":
            return ", ".join(f"{label}: {epoch}" for epoch, label in value)
        case "rate_by_label":
            return ", ".join(f"{label}: {rate!r}" for label, rate in value)
    return "none" if value is None else str(value)


def _quoted(text: str) -> str:
    """A name as it is, what is none in quotes."""
    return text if text.isidentifier() else f'"{text}"'


def _entry(entry: Entry) -> str:
    kinds = {p.name: p.type.kind for p in signature_of(type(entry))}
    changed = [
        f"{f.name}={write_value(getattr(entry, f.name), kinds[f.name], f.name)}"
        for f in fields(entry)
        if getattr(entry, f.name) != f.default
    ]
    return f"{entry.names[0]}({', '.join(changed)})" if changed else entry.names[0]
