"""Writes the body of a network: nodes as lines, the turns of repeats as calls of functions, alike turns as loops.

Turns whose lines are the same share a function, whatever their numbers of channels: shapes stand in comments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from cnnc.backends.jax.export.op_calls import Term, term
from cnnc.backends.jax.export.python_names import Names, label_of, outermost, relative
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.ops import Dropout, DropPath, Input, Shape

_FEWEST_TURNS = 3
"""Fewer are not worth a loop."""


@dataclass(frozen=True)
class Turn:
    """A turn of a repeat: all its nodes lie in the scope `prefix`, which is `group` and its index."""

    group: str
    index: int
    nodes: tuple[Node, ...]
    items: tuple[Item, ...]

    @property
    def prefix(self) -> str:
        return f"{self.group}.{self.index}"


Item = Node | Turn


@dataclass
class Line:
    """A statement, and the shapes that its result has where it is used; a remark has none."""

    code: str
    depth: int = 1
    shapes: list[Shape] = field(default_factory=list)


@dataclass(frozen=True)
class _Scope:
    """The scope of names that a function is of, and the one that its weights lie in, which may be another's."""

    prefix: str
    home: str


@dataclass
class Block:
    """A function that turns call: with the parameters and its own path where it `owns` weights."""

    name: str
    arguments: tuple[str, ...]
    lines: list[Line]
    owns: bool
    users: list[str]
    place: int
    """Where it is met first, those that call it before."""


class Writer:
    """Writes one graph; `blocks` are the functions met on the way."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._readers = graph.consumers
        self._outputs = {name for _, name in graph.outputs}
        self._names = Names()
        self._blocks: dict[tuple[object, ...], Block] = {}
        self.functions: set[str] = set()
        """Those of `module_functions` that are called."""
        self._met = 0

    @property
    def blocks(self) -> list[Block]:
        return sorted(self._blocks.values(), key=lambda block: block.place)

    def body(self, arguments: Mapping[str, str]) -> tuple[list[Line], list[str]]:
        """The lines that compute the outputs, whose names follow. `arguments` names the inputs' variables."""
        nodes = [node for node in self._graph if not isinstance(node.op, Input)]
        items = tuple(items_of(nodes))
        blocks = self._blocks_of(items)
        names = Names([*arguments.values(), *(block.name for block in blocks if block)])
        results = list(dict.fromkeys(name for _, name in self._graph.outputs))
        return self._lines(items, blocks, _Scope("", ""), dict(arguments), results, names)

    def _blocks_of(self, items: Sequence[Item]) -> list[Block | None]:
        return [self._block(item) if isinstance(item, Turn) else None for item in items]

    def _block(self, turn: Turn) -> Block:
        """The function of a turn: one that is there and has the same lines, or a new one."""
        self._met += 1
        place = self._met
        inner = self._blocks_of(turn.items)
        outside = self._reads(turn)
        arguments = ("x",) if len(outside) == 1 else tuple(f"x{place}" for place in range(1, len(outside) + 1))
        names = Names([*arguments, *(block.name for block in inner if block)])
        values = dict(zip(outside, arguments, strict=True))
        made = self._makes(turn)
        lines, results = self._lines(turn.items, inner, _Scope(turn.prefix, self._home(turn)), values, made, names)
        lines.append(Line(f"return {', '.join(results)}"))
        owns = any(map(self._has_arrays, turn.nodes))
        key = (arguments, owns, *((line.code, line.depth) for line in lines))
        if key in self._blocks:
            block = self._blocks[key]
            for mine, line in zip(block.lines, lines, strict=True):
                mine.shapes.extend(line.shapes)
            block.users.append(turn.prefix)
            return block
        name = self._names.give(_block_name(turn.group))
        self._blocks[key] = Block(name, arguments, lines, owns, [turn.prefix], place)
        return self._blocks[key]

    def _lines(
        self,
        items: Sequence[Item],
        blocks: Sequence[Block | None],
        within: _Scope,
        values: dict[str, str],
        results: Sequence[str],
        names: Names,
    ) -> tuple[list[Line], list[str]]:
        """The statements of a function, and the variables that hold its results."""
        prefix = within.prefix
        users = _users([self._reads(item) for item in items])
        # A value that the next statement alone reads needs no name of its own.
        passing = [name for name, variable in values.items() if variable == "x"]
        chain = "x" if all(users.get(name) == [0] and name not in results for name in passing) else "y"
        lines: list[Line] = []
        scope, place = "", 0
        while place < len(items):
            item, block = items[place], blocks[place]
            scope, remark = self._remark(item, prefix, scope)
            lines.extend(remark)
            stop = place + 1
            if block is not None:
                stop = place + self._alike(items[place:], blocks[place:], values, chain)
            variables = []
            for made in self._makes(items[stop - 1]):
                last = results == [made] and stop == len(items) and not users.get(made)
                alone = last or (users.get(made) == [stop] and made not in results)
                variables.append(self._variable(made, prefix, names, chain if alone else None))
                values[made] = variables[-1]
            if isinstance(item, Node):
                lines.append(self._node(item, within.home, values))
            elif block is not None and stop > place + 1:
                lines.extend(self._loop(items[place:stop], block, within.home, values, chain, variables[0]))
            elif block is not None:
                path = f'"{_path(self._home(item), within.home)}"'
                lines.append(self._call(item, block, path, values, variables))
            place = stop
        return lines, [values[name] for name in results]

    def _has_arrays(self, node: Node) -> bool:
        """Whether a node uses weights, its own or another's."""
        return bool(self._graph.weights(self._graph[node.owner]))

    def _home(self, turn: Turn) -> str:
        """The scope that a turn's weights lie in: its own, or that of a turn whose weights all of it uses."""
        homes = set()
        for node in filter(self._has_arrays, turn.nodes):
            inner = node.name.removeprefix(turn.prefix)
            homes.add(node.owner.removesuffix(inner) if node.owner.endswith(inner) else turn.prefix)
        return homes.pop() if len(homes) == 1 else turn.prefix

    def _node(self, node: Node, home: str, values: Mapping[str, str]) -> Line:
        written = self._term(node)
        if written.function.isidentifier():
            self.functions.add(written.function)
        arrays = f"params[{_quoted(node.owner, home)}]" if self._has_arrays(node) else "{}"
        operands = [values[name] for name in node.inputs]
        return Line(f"{values[node.name]} = {written.write(operands, arrays)}", 1, [node.shape])

    def _term(self, node: Node) -> Term:
        written = term(node.op, *self._graph.input_shapes(node))
        if not written.function:
            raise CnnError.of(
                "backend",
                f"the target `jax` has no operator `{node.op.name}`, which `{node.name}` needs",
                node.origin.span if node.origin else None,
                notes=node.origin.notes if node.origin else (),
            )
        return written

    def _call(self, turn: Turn, block: Block, path: str, values: Mapping[str, str], variables: Sequence[str]) -> Line:
        place = ["params", f"f{path}" if "{" in path else path] if block.owns else []
        given = ", ".join([*place, *(values[name] for name in self._reads(turn))])
        shapes = [self._graph[self._makes(turn)[0]].shape] if len(variables) == 1 else []
        return Line(f"{', '.join(variables)} = {block.name}({given})", 1, shapes)

    def _loop(
        self, items: Sequence[Item], block: Block, home: str, values: dict[str, str], chain: str, result: str
    ) -> Iterator[Line]:
        """The turns as a loop that carries a variable on: what each makes, and the next one reads."""
        turns = [item for item in items if isinstance(item, Turn)]
        first, second = turns[0], turns[1]
        (made,) = self._makes(first)
        carried = self._reads(first)[self._reads(second).index(made)]
        if values[carried] != chain:
            yield Line(f"{chain} = {values[carried]}")
        start, stop = first.index, turns[-1].index + 1
        yield Line(f"for i in range({f'{start}, ' if start else ''}{stop}):")
        inner = {**values, carried: chain}
        path = f'"{_path(self._home(first).rpartition(".")[0], home)}.{{i}}"'
        shapes = [self._graph[self._makes(turn)[0]].shape for turn in turns]
        yield replace(self._call(first, block, path, inner, [chain]), depth=2, shapes=shapes)
        if result != chain:
            yield Line(f"{result} = {chain}")

    def _alike(
        self, items: Sequence[Item], blocks: Sequence[Block | None], values: Mapping[str, str], chain: str
    ) -> int:
        """How many of the turns that begin here make a loop; 1 for none."""
        first = items[0]
        assert isinstance(first, Turn), first
        inputs = self._reads(first)
        before, count, carried = first, 1, -1
        home, _, number = self._home(first).rpartition(".")
        if number != str(first.index):
            return 1
        for turn, block in zip(items[1:], blocks[1:], strict=True):
            made = self._makes(before)
            if not isinstance(turn, Turn) or block is not blocks[0] or turn.group != first.group:
                break
            if self._home(turn) != f"{home}.{turn.index}":
                break
            reads = self._reads(turn)
            inside = {node.name for node in turn.nodes}
            if len(made) != 1 or made[0] not in reads or made[0] in self._outputs:
                break
            if not all(reader.name in inside for reader in self._readers[made[0]]):
                break
            place = reads.index(made[0])
            if carried not in (-1, place) or turn.index != before.index + 1:
                break
            if any(a != b for p, (a, b) in enumerate(zip(inputs, reads, strict=True)) if p != place):
                break
            before, count, carried = turn, count + 1, place
        overwritten = any(values[name] == chain for place, name in enumerate(inputs) if place != carried)
        return 1 if count < _FEWEST_TURNS or overwritten else count

    def _variable(self, name: str, prefix: str, names: Names, chain: str | None) -> str:
        node, readers, is_output = self._graph[name], self._readers[name], name in self._outputs
        label = label_of(node, readers, is_output, prefix)
        if chain is not None and (label is None or prefix):
            return chain
        return names.give(label or outermost(node, readers, is_output, prefix))

    def _remark(self, item: Item, prefix: str, scope: str) -> tuple[str, list[Line]]:
        """The scope that an item lies in, and a line that says so where it is a new one."""
        own = relative(item.prefix if isinstance(item, Turn) else item.name, prefix).split(".")
        found = own[0] if len(own) > 1 else ""
        is_news = found not in ("", scope) and not (isinstance(item, Turn) and found[-1:].isdigit())
        return found, [Line(f"# {found}")] if is_news else []

    def _reads(self, item: Item) -> list[str]:
        """The values from outside that an item reads, in the order of their first use."""
        if isinstance(item, Node):
            return list(item.inputs)
        inside = {node.name for node in item.nodes}
        return list(dict.fromkeys(name for node in item.nodes for name in node.inputs if name not in inside))

    def _makes(self, item: Item) -> list[str]:
        """The values of an item that others read, or the user does."""
        if isinstance(item, Node):
            return [item.name]
        inside = {node.name for node in item.nodes}
        return [
            node.name
            for node in item.nodes
            if node.name in self._outputs or any(reader.name not in inside for reader in self._readers[node.name])
        ]


def items_of(nodes: Sequence[Node], depth: int = 0) -> Iterator[Item]:
    """Nodes in their order, those of a turn together where they lie in its scope."""
    for repeat, run in groupby(nodes, lambda node: node.repeats[depth] if len(node.repeats) > depth else None):
        own = tuple(run)
        if repeat is None:
            yield from own
        elif _is_scope(f"{repeat.group}.{repeat.index}", own):
            yield Turn(repeat.group, repeat.index, own, tuple(items_of(own, depth + 1)))
        else:
            yield from items_of(own, depth + 1)


def without_noise(graph: Graph) -> Graph:
    """The graph without what only training has, and without what no output needs."""
    same: dict[str, str] = {}
    nodes = []
    for node in graph:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if isinstance(node.op, Dropout | DropPath):
            same[node.name] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    outputs = tuple((label, same.get(name, name)) for label, name in graph.outputs)
    needed = {name for _, name in outputs}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = (node for node in nodes if node.name in needed or isinstance(node.op, Input))
    return Graph(graph.name, tuple(kept), outputs)


def _is_scope(prefix: str, nodes: Sequence[Node]) -> bool:
    plain = all(part.isidentifier() or part.isdigit() for part in prefix.split("."))
    return plain and all(f"{node.name}.".startswith(f"{prefix}.") for node in nodes)


def _block_name(group: str) -> str:
    """`residual_block` for the turns of `trunk.residual1`."""
    label = next((part for part in reversed(group.split(".")) if not part.isdigit()), "").rstrip("0123456789")
    return "block" if label in ("", "block", "blocks") else f"{label}_block"


def _users(reads: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """For every value the places of the items that read it."""
    found: dict[str, list[int]] = {}
    for place, names in enumerate(reads):
        for name in dict.fromkeys(names):
            found.setdefault(name, []).append(place)
    return found


def _quoted(name: str, home: str) -> str:
    """The path of a node as an expression; within a function by its own path, `name`, where it lies in its home."""
    if name == home:
        return "name"
    path = _path(name, home)
    return f'f"{path}"' if path.startswith("{name}") else f'"{path}"'


def _path(name: str, home: str) -> str:
    if not home or not name.startswith(f"{home}."):
        return name.replace("\\", "\\\\").replace('"', '\\"')
    return f"{{name}}.{relative(name, home)}"
