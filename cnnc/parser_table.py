"""The parse table of grammar/cnn.lark, kept beside it as JSON: to build it takes ten times as long as to read it.

`make grammar` writes it anew; a table of another grammar or another lark is not used.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import lark

_OPTIONS: dict[str, Any] = {"parser": "lalr", "lexer": "contextual", "propagate_positions": True}


def load(**options: Any) -> lark.Lark:
    """The parser, with Lark's load-time options (`postlex`, ...): from the table if it is that of the grammar."""
    folder = files("cnnc.grammar")
    grammar = folder.joinpath("cnn.lark").read_text(encoding="utf-8")
    table = folder.joinpath("cnn.lalr.json")
    if table.is_file():
        content = json.loads(table.read_text(encoding="utf-8"))
        if content["of"] == _identity(grammar):
            return _deserialize(content, options)
    return lark.Lark(grammar, **_OPTIONS, **options)


def _identity(grammar: str) -> dict[str, str]:
    return {"grammar": hashlib.sha256(grammar.encode()).hexdigest(), "lark": lark.__version__}


def _deserialize(content: dict[str, Any], options: dict[str, Any]) -> lark.Lark:
    """Lark's own loader; JSON has turned the numbers that are keys into strings."""
    memo = {int(key): value for key, value in content["memo"].items()}
    table = content["data"]["parser"]["parser"]
    table["states"] = {int(key): value for key, value in table["states"].items()}
    parser: lark.Lark = lark.Lark._load_from_dict(content["data"], memo, **options)  # type: ignore[no-untyped-call]  # lark's own
    return parser


def build(grammar: str) -> str:
    """The JSON text for a grammar."""
    parser = lark.Lark(grammar, **_OPTIONS)
    data, memo = parser.memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
    return json.dumps({"of": _identity(grammar), "data": data, "memo": memo}, separators=(",", ":")) + "\n"


def write() -> None:
    """Write the table anew beside the grammar: `make grammar`."""
    folder = Path(__file__).parent / "grammar"
    grammar = (folder / "cnn.lark").read_text(encoding="utf-8")
    (folder / "cnn.lalr.json").write_text(build(grammar), encoding="utf-8")
