"""The parser's terminals in words."""

from __future__ import annotations

_WORDS = {
    "NAME": "a name",
    "INTEGER": "a number",
    "DECIMAL": "a number",
    "QUANTITY": "a number",
    "DIMS": "a size such as `3x3`",
    "STRING": "a string",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "VBAR": "`|`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "EQUALS": "`=`",
    "MERGE": "`add`, `concat` or `mul`",
    "_NEWLINE": "the end of the line",
    "$END": "the end of the file",
}
_OPERATORS = frozenset(
    {"COMPARE", "PLUS", "MINUS", "MULTIPLY", "POWER", "OR", "AND", "_IF", "_ELSE", "_X", "DOT", "VBAR"}
)
_VALUES = frozenset({"NAME", "INTEGER", "STRING", "LSQB", "LPAR"})
_DEFINITIONS = frozenset({"MODEL", "BLOCK"})
ENDINGS = frozenset({"_NEWLINE", "$END", "RBRACE"})


def describe(type: str, text: str) -> str:
    """A token as it was found."""
    if type == "_NEWLINE":
        return "the end of the line"
    return f"`{text}`"


def expectation(expected: frozenset[str]) -> str:
    """What the parser would have taken, in a few words; empty when that says nothing."""
    if expected >= _DEFINITIONS:
        return "a definition or a layer"
    rest = set(expected)
    words: list[str] = []
    if rest >= _VALUES:
        words.append("a layer or a value")
        rest -= {
            "NAME",
            "INTEGER",
            "DECIMAL",
            "DIMS",
            "STRING",
            "LSQB",
            "LPAR",
            "MERGE",
            "TRUE",
            "FALSE",
            "NOT",
            "IN",
            "MINUS",
        }
        rest -= {"INPUT", "OUTPUT", "EXPECT", "_IF", "_NEWLINE"}
    rest -= _OPERATORS
    if not words and rest & ENDINGS:
        rest = (rest - ENDINGS) | {"_NEWLINE"}
    words.extend(sorted({_WORDS.get(name, f"`{name.strip('_').lower()}`") for name in rest}))
    if len(words) > 5:
        return ""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
