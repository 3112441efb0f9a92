"""Text of others as it can be shown: what a terminal or a page would obey is spelt out."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""A text in one line, whose control characters are escapes: `\x1b`, `\n`, `\u202e`.

    Escaped are control and format characters, among them what turns the direction of text or has no width, line and
    paragraph separators, blanks but the plain one, and surrogates, which stand for bytes of file
    names that are no UTF-8.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
