"""An LALR(1) automaton: tokens and a table to a tree. Lark makes the table (parse_table.py); this runs it.

Lark's own driver would spend most of its time in the grammar's ladder of precedence, one call for each rung and token.
Here a rung is a change of state. A word is a keyword where the grammar has a place for that, and a name elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from cnnc.frozen import dataclass

END: Final = "$END"
NAME: Final = "NAME"
UNKNOWN: Final = "?"
"""The type of a character that no token starts with."""


class Token(str):
    """A piece of the text: the name of its terminal, and its characters from `start_pos` up to `end_pos`."""

    __slots__ = ("end_pos", "start_pos", "type")
    type: str
    start_pos: int
    end_pos: int


class Tree:
    """A rule applied to tokens and trees; an optional part that is absent is None."""

    __slots__ = ("children", "data", "end_pos", "start_pos")

    def __init__(self, data: str, children: list[Token | Tree | None], start_pos: int, end_pos: int) -> None:
        self.data = data
        self.children = children
        self.start_pos = start_pos
        self.end_pos = end_pos


class Unexpected(Exception):
    """A token that the grammar has no place for; `accepted` are the terminals that it has."""

    def __init__(self, token: Token, accepted: frozenset[str]) -> None:
        super().__init__(token)
        self.token = token
        self.accepted = accepted


@dataclass(frozen=True)
class Rule:
    """`origin: symbols`, of which there are `length`. `parts` says what becomes of them: see `_children`.

    The children of an inline rule go straight into the rule that uses it. A rung only renames its one symbol.
    """

    origin: str
    length: int
    parts: tuple[tuple[str, int], ...]
    is_inline: bool
    is_rung: bool


def make_rule(origin: str, length: int, parts: Sequence[tuple[str, int]]) -> Rule:
    """A rule; by lark's convention it is inline when its name starts with `_`."""
    is_inline = origin.startswith("_")
    return Rule(origin, length, tuple(parts), is_inline, is_inline and list(parts) == [("splice", 0)])


@dataclass(frozen=True)
class Table:
    """A grammar's parse table, as lark makes it.

    `states[s]` tells for a symbol the state to go to, or for a terminal to reduce by rule `~value` when negative. Rules
    have names in small letters, terminals in capitals.
    """

    pattern: re.Pattern[str]
    words: Mapping[str, str]
    ignored: frozenset[str]
    rules: tuple[Rule, ...]
    states: Sequence[Mapping[str, int]]
    start: int
    end: int
    climbs: dict[tuple[int, int, str], int] = field(default_factory=dict)
    """From a state, a state on it and a terminal to the state that the rungs in between lead to; found as needed."""


def tokenize(table: Table, text: str, start: int, end: int) -> Iterator[Token]:
    """The tokens of a part of a text.

    A keyword is still a name; of characters that start no token the first is of type `?`.
    """
    position, pattern, ignored = start, table.pattern, table.ignored
    while position < end:
        found = pattern.match(text, position, end)
        if found is None:
            yield make_token(UNKNOWN, text[position], position)
            after = pattern.search(text, position + 1, end)
            position = after.start() if after else end
            continue
        kind, position = found.lastgroup, found.end()
        assert kind is not None
        if kind not in ignored:
            yield make_token(kind, found[0], found.start())


def make_token(kind: str, text: str, start: int) -> Token:
    """A token of a terminal at a place."""
    token = Token(text)
    token.type, token.start_pos, token.end_pos = kind, start, start + len(text)
    return token


_Value = Token | Tree | list["Token | Tree | None"]


@dataclass(frozen=True)
class Mark:
    """An automaton's stacks as they were."""

    states: tuple[int, ...]
    values: tuple[_Value, ...]
    spans: tuple[tuple[int, int] | None, ...]


class Automaton:
    """The stacks: of states, of what they stand for, and of where that starts and ends (None for what is empty)."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._states = [table.start]
        self._values: list[_Value] = []
        self._spans: list[tuple[int, int] | None] = []

    @property
    def depth(self) -> int:
        """The number of open symbols: neither complete nor in a list of their likes."""
        return len(self._values)

    def mark(self) -> Mark:
        """The stacks, to go back to after a fault. What is built after that is of no use: lists grow in place."""
        return Mark(tuple(self._states), tuple(self._values), tuple(self._spans))

    def reset(self, mark: Mark) -> None:
        """Go back."""
        self._states, self._values, self._spans = list(mark.states), list(mark.values), list(mark.spans)

    def finish(self, end: int) -> Tree:
        """The tree of a text that ends there, all of whose tokens were fed. Raises Unexpected where it is too short."""
        self.feed(make_token(END, "", end))
        tree = self._values[0]
        assert isinstance(tree, Tree)
        return tree

    def _classify(self, word: Token) -> str:
        """The keyword that a word is, where the state at hand has a place for one."""
        kind = self._table.words.get(word)
        if kind is None:
            return NAME
        here = self._table.states[self._states[-1]]
        return kind if kind in here or NAME not in here else NAME

    def feed(self, token: Token) -> None:
        """Shift a token, after the reductions that it calls for. Raises Unexpected."""
        if token.type == NAME:
            token.type = self._classify(token)
        table, states, kind = self._table, self._states, token.type
        while True:
            action = table.states[states[-1]].get(kind)
            if action is None:
                if kind == END and states[-1] == table.end:
                    return
                raise Unexpected(token, self._accepted())
            if action >= 0:
                states.append(action)
                self._values.append(token)
                self._spans.append((token.start_pos, token.end_pos))
                return
            rule = table.rules[~action]
            if rule.is_rung:
                step = (states[-2], states[-1], kind)
                if step not in table.climbs:
                    table.climbs[step] = self._climb(rule, kind)
                states[-1] = table.climbs[step]
            else:
                self._reduce(rule)

    def _climb(self, rule: Rule, kind: str) -> int:
        """The state after all rungs from this one on."""
        rows, rules, below = self._table.states, self._table.rules, self._states[-2]
        while True:
            state = rows[below][rule.origin]
            action = rows[state].get(kind, 0)
            if action >= 0 or not rules[~action].is_rung:
                return state
            rule = rules[~action]

    def _reduce(self, rule: Rule) -> None:
        states, values, spans = self._states, self._values, self._spans
        base = len(values) - rule.length
        children = _children(rule, values, base)
        span = spans[base] if rule.length else None
        if rule.length > 1:
            given = [span for span in spans[base:] if span is not None]
            span = (given[0][0], given[-1][1]) if given else None
        del states[base + 1 :], values[base:], spans[base:]
        if rule.is_inline:
            values.append(children)
        else:
            start, end = span or (0, 0)
            values.append(Tree(rule.origin, children, start, end))
        spans.append(span)
        states.append(self._table.states[states[-1]][rule.origin])

    def _accepted(self) -> frozenset[str]:
        """The terminals that could have come: those whose reductions lead to a shift."""
        row = self._table.states[self._states[-1]]
        return frozenset(symbol for symbol in row if not symbol.islower() and self._accepts(symbol))

    def _accepts(self, kind: str) -> bool:
        table, states = self._table, list(self._states)
        while True:
            action = table.states[states[-1]].get(kind)
            if action is None or action >= 0:
                return action is not None or (kind == END and states[-1] == table.end)
            rule = table.rules[~action]
            del states[len(states) - rule.length :]
            states.append(table.states[states[-1]][rule.origin])


def _children(rule: Rule, values: Sequence[_Value], base: int) -> list[Token | Tree | None]:
    """The children that a rule keeps of its symbols: the symbol, those of an inline one, None for an optional part."""
    children: list[Token | Tree | None] = []
    for part, index in rule.parts:
        if part == "none":
            children.append(None)
            continue
        value = values[base + index]
        if not isinstance(value, list):
            children.append(value)
        elif children:
            children.extend(value)
        else:
            children = value  # an inline rule's children are used once: a long list is built in place
    return children
