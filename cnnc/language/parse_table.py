"""The parse table of grammar/cnn.lark, kept beside it as JSON, so that lark and its half a second are not needed.

`make grammar` writes it anew; a table of another grammar is not used.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any, Final

from cnnc.language.lalr import NAME, Table, make_rule

_FOLDER: Final = Path(__file__).parent.parent / "grammar"


def load() -> Table:
    """The table: as it is kept if it is that of the grammar, else built."""
    grammar = (_FOLDER / "cnn.lark").read_text(encoding="utf-8")
    kept = _FOLDER / "cnn.lalr.json"
    if kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["grammar"] == _identity(grammar):
            return _table(content)
    return _table(json.loads(build(grammar)))


def write() -> None:
    """Write the table anew beside the grammar: `make grammar`."""
    grammar = (_FOLDER / "cnn.lark").read_text(encoding="utf-8")
    (_FOLDER / "cnn.lalr.json").write_text(build(grammar), encoding="utf-8")


def build(grammar: str) -> str:
    """The JSON text for a grammar: lark's LALR table, its terminals as one regular expression, its rules in brief."""
    import lark

    parser = lark.Lark(grammar, parser="lalr")
    table = parser.parser.parser._parse_table
    words, patterns = _terminals(parser)
    numbers = {rule: index for index, rule in enumerate(parser.rules)}
    order = _order(table.states, table.start_states["start"])
    states = [
        {name: ~numbers[to] if action.name == "Reduce" else order[to] for name, (action, to) in sorted(row.items())}
        for row in (table.states[state] for state in order)
    ]
    rows = sorted({json.dumps(row) for row in states})
    content = {
        "grammar": _identity(grammar),
        "pattern": "|".join(f"(?P<{name}>{pattern})" for name, pattern in patterns),
        "words": words,
        "ignored": sorted(parser.ignore_tokens),
        "rules": [[str(rule.origin.name), len(rule.expansion), _parts(rule)] for rule in parser.rules],
        "rows": [json.loads(row) for row in rows],
        "states": [rows.index(json.dumps(row)) for row in states],
        "start": order[table.start_states["start"]],
        "end": order[table.end_states["start"]],
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


def _table(content: dict[str, Any]) -> Table:
    return Table(
        re.compile(content["pattern"]),
        content["words"],
        frozenset(content["ignored"]),
        tuple(
            make_rule(origin, length, [(part, n) for part, n in parts]) for origin, length, parts in content["rules"]
        ),
        [content["rows"][row] for row in content["states"]],
        content["start"],
        content["end"],
    )


def _identity(grammar: str) -> str:
    data = grammar.encode()
    return f"{zlib.crc32(data):08x}, {len(data)} bytes"


def _order(states: Any, start: Any) -> dict[Any, int]:
    """The states' numbers, in the order that they are reached in: lark's own differ from run to run."""
    order = {start: 0}
    for state in (reached := [start]):
        for _, (action, to) in sorted(states[state].items()):
            if action.name == "Shift" and to not in order:
                order[to] = len(order)
                reached.append(to)
    return order


def _terminals(parser: Any) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The keywords, word by word, and the other terminals' patterns: by priority, the longer before the shorter."""
    words: dict[str, str] = {}
    patterns = []
    for terminal in sorted(parser.terminals, key=lambda t: (-t.priority, -t.pattern.max_width, t.name)):
        pattern = terminal.pattern.to_regexp()
        spelt = re.sub(r"\(\?!.*\)$", "", pattern).strip("()").split("|")
        if terminal.name != NAME and all(word.isidentifier() for word in spelt):
            words.update(dict.fromkeys(spelt, terminal.name))
        else:
            patterns.append((terminal.name, pattern))
    return dict(sorted(words.items())), patterns


def _parts(rule: Any) -> list[tuple[str, int]]:
    """The treatment of each of a rule's symbols, as in lark's trees: punctuation goes, `_rules` are spliced."""
    absent = rule.options.empty_indices or (False,) * len(rule.expansion)
    parts: list[tuple[str, int]] = []
    symbols = iter(enumerate(rule.expansion))
    for is_absent in absent:
        if is_absent:
            parts.append(("none", 1))
            continue
        index, symbol = next(symbols)
        if not symbol.is_term:
            parts.append(("splice" if symbol.name.startswith("_") else "keep", index))
        elif not symbol.filter_out:
            parts.append(("keep", index))
    return parts
