"""How long a network is: lines that say something, of a spec and of what in keras.applications builds it."""

from __future__ import annotations

import ast
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

from cnnc import specs

_PACKAGE = "keras.src.applications."
_COMMON = _PACKAGE + "imagenet_utils"


def spec_lines(name: str) -> int:
    """Lines of a spec, neither empty nor comment: its variants, budgets and recipe are among them."""
    lines = (line.split("#")[0].strip() for line in specs.read(name).splitlines())
    return sum(bool(line) for line in lines)


def keras_lines(function: Callable[..., object]) -> int:
    """Lines of a function of keras.applications, and of all functions and tables there that it uses.

    Neither docstrings nor comments, empty lines, and tables of addresses and hashes of weights count, nor what is
    common to all networks, in imagenet_utils.
    """
    waiting = [(sys.modules[function.__module__], function.__name__)]
    used = set(waiting)
    for module, name in waiting:
        new = sorted(set(_used(module, name)) - used, key=str)
        used.update(new)
        waiting += new
    lines = {module: _lines_of_code(inspect.getsource(module)) for module, _ in used}
    counted = {
        (module.__name__, line)
        for module, name in used
        for line in _extent(_definitions(module)[name]) & lines[module]
        if "WEIGHT" not in name
    }
    return len(counted)


def _used(module: ModuleType, name: str) -> Iterator[tuple[ModuleType, str]]:
    """What a definition uses of its own module, and as `other.name` of others of keras.applications."""
    own = _definitions(module)
    for node in ast.walk(own[name]):
        match node:
            case ast.Name(id=found) if found in own:
                yield module, found
            case ast.Attribute(value=ast.Name(id=found), attr=attribute):
                other = getattr(module, found, None)
                if isinstance(other, ModuleType) and other.__name__.startswith(_PACKAGE) and other.__name__ != _COMMON:
                    yield other, attribute


@cache
def _definitions(module: ModuleType) -> dict[str, ast.stmt]:
    """The functions, classes and tables at the top of a module."""
    found: dict[str, ast.stmt] = {}
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found.update({target.id: statement for target in statement.targets if isinstance(target, ast.Name)})
    return found


def _extent(statement: ast.stmt) -> set[int]:
    """The numbers of its lines, but those of docstrings."""
    assert statement.end_lineno is not None, statement
    lines = set(range(statement.lineno, statement.end_lineno + 1))
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            assert text.end_lineno is not None, text
            lines -= set(range(text.lineno, text.end_lineno + 1))
    return lines


def _lines_of_code(source: str) -> set[int]:
    """The numbers of lines with a token that is no comment."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines
