"""The parse tree to the syntax tree of cnnc/language/syntax.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnnc.diagnostics import CnnError, Source, Span
from cnnc.language import syntax

DEEPEST_EXPRESSION = 100
TOO_DEEP = f"an expression nests more than {DEEPEST_EXPRESSION} deep"
MOST_DIGITS = 40
MOST_ENTRIES = 1000
LONGEST_NAME = 100
LONGEST_STRING = 1000


class TreeReader:
    """Reads the trees of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._depth = 0
        self._readers: dict[str, Callable[[Any], syntax.Expression]] = {
            "conditional": self._conditional,
            "pipeline": lambda t: syntax.Pipeline(self._expressions(t.children), self._span(t)),
            "repeat": lambda t: syntax.Repeat(*self._pair(t.children), self._span(t)),
            "disjunction": self._operation,
            "conjunction": self._operation,
            "comparison": self._operation,
            "sum": self._operation,
            "product": self._operation,
            "power": self._operation,
            "negation": self._unary,
            "minus": self._unary,
            "attribute": lambda t: syntax.Attribute(
                self._expression(t.children[0]), self._name(t.children[1]), self._span(t)
            ),
            "incoming": lambda t: syntax.Incoming(self._span(t)),
            "name": lambda t: self._name(t.children[0]),
            "integer": lambda t: syntax.Constant(self._integer(t.children[0]), self._span(t)),
            "decimal": lambda t: syntax.Constant(float(self._digits(t.children[0])), self._span(t)),
            "dims": lambda t: syntax.Dims(self._sizes(t.children[0]), self._span(t)),
            "string": lambda t: syntax.Constant(self._string(t.children[0]), self._span(t)),
            "truth": lambda t: syntax.Constant(t.children[0] == "true", self._span(t)),
            "list": lambda t: syntax.ListOf(self._expressions(self._entries(t.children, t)), self._span(t)),
            "call": self._call,
            "branches": self._branches,
            "parentheses": lambda t: self._expression(t.children[0]),
        }

    def file(self, tree: Any) -> syntax.File:
        """The whole file; statements outside a model make a model without a name."""
        kinds: dict[str, list[Any]] = {}
        statements = []
        for child in _present(tree.children):
            kind = _kind(child)
            if kind in ("input", "output", "assignment", "flow", "if"):
                statements.append(self._statement(child))
            else:
                kinds.setdefault(kind, []).append(child)
        expects = [self._expect(t) for t in kinds.get("expect", [])]
        models = [self._model(t, expects) for t in kinds.get("model", [])]
        if statements:
            span = statements[0].span.to(statements[-1].span)
            models.insert(0, syntax.Model(None, (), tuple(statements), span))
        return syntax.File(
            self._source,
            tuple(syntax.Import(self._string(t.children[0]), self._span(t)) for t in kinds.get("import_file", [])),
            tuple(models),
            tuple(self._block(t) for t in kinds.get("block", [])),
            tuple(self._scale(t) for t in kinds.get("scale", [])),
            tuple(self._variant(v) for t in kinds.get("variants", []) for v in _present(t.children)),
            tuple(self._train(t) for t in kinds.get("train", [])),
            tuple(expects),
        )

    def _model(self, tree: Any, expects: list[syntax.Expect]) -> syntax.Model:
        name, parameters, body = tree.children
        expects.extend(self._expect(t) for t in _present(body.children) if _kind(t) == "expect")
        return syntax.Model(self._name(name), self._parameters(parameters), self._body(body), self._span(tree))

    def _block(self, tree: Any) -> syntax.Block:
        name, parameters, body = tree.children
        for child in _present(body.children):
            if _kind(child) == "expect":
                raise CnnError.of(
                    "syntax", "`expect` stands in a model or outside of it, not in a block", self._span(child)
                )
        return syntax.Block(self._name(name), self._parameters(parameters), self._body(body), self._span(tree))

    def _parameters(self, tree: Any) -> tuple[syntax.ParameterDef, ...]:
        return () if tree is None else tuple(self._parameter(t) for t in self._entries(tree.children, tree))

    def _parameter(self, tree: Any) -> syntax.ParameterDef:
        name, type, *default = tree.children
        return syntax.ParameterDef(
            self._name(name),
            None if type is None else self._name(type),
            self._expression(default[0]) if default else None,
            self._span(tree),
        )

    def _body(self, tree: Any) -> tuple[syntax.Statement, ...]:
        return tuple(self._statement(t) for t in _present(tree.children) if _kind(t) != "expect")

    def _scale(self, tree: Any) -> syntax.Scale:
        name, *rules = _present(tree.children)
        return syntax.Scale(self._name(name), tuple(self._assignment(t) for t in rules), self._span(tree))

    def _variant(self, tree: Any) -> syntax.Variant:
        name, *settings = tree.children
        return syntax.Variant(self._name(name), tuple(self._argument(t) for t in settings), self._span(tree))

    def _train(self, tree: Any) -> syntax.Train:
        return syntax.Train(tuple(self._entry(t) for t in _present(tree.children)), self._span(tree))

    def _entry(self, tree: Any) -> syntax.Entry:
        key, *arms = tree.children
        return syntax.Entry(self._name(key), tuple(self._arm(t) for t in arms), self._span(tree))

    def _arm(self, tree: Any) -> syntax.Arm:
        label, value = tree.children
        return syntax.Arm(self._optional_name(label), self._expression(value), self._span(tree))

    def _expect(self, tree: Any) -> syntax.Expect:
        variant, *budgets = tree.children
        return syntax.Expect(self._optional_name(variant), tuple(map(self._budget, budgets)), self._span(tree))

    def _budget(self, tree: Any) -> syntax.Budget:
        quantity, relation, digits = tree.children
        return syntax.Budget(self._name(quantity), str(relation), self._digits(digits), self._span(tree))

    def _statement(self, tree: Any) -> syntax.Statement:
        kind = _kind(tree)
        span = self._span(tree)
        if kind == "input":
            name, dims, dtype = tree.children
            return syntax.Input(self._optional_name(name), self._sizes(dims), self._optional_name(dtype), span)
        if kind == "output":
            return syntax.Output(tuple(map(self._name, tree.children)), span)
        if kind == "assignment":
            return self._assignment(tree)
        if kind == "if":
            return self._if(tree)
        label, value = tree.children
        return syntax.Flow(self._optional_name(label), self._expression(value), span)

    def _assignment(self, tree: Any) -> syntax.Assignment:
        name, _, value = tree.children
        return syntax.Assignment(self._name(name), self._expression(value), self._span(tree))

    def _if(self, tree: Any) -> syntax.If:
        test, then, otherwise = tree.children
        nested: tuple[syntax.Statement, ...] = ()
        if otherwise is not None:
            nested = (self._nested_if(otherwise),) if _kind(otherwise) == "if" else self._body(otherwise)
        return syntax.If(self._expression(test), self._body(then), nested, self._span(tree))

    def _nested_if(self, tree: Any) -> syntax.If:
        self._descend(tree, f"more than {DEEPEST_EXPRESSION} `else if` in a row", None)
        result = self._if(tree)
        self._depth -= 1
        return result

    def _expression(self, tree: Any) -> syntax.Expression:
        self._descend(tree)
        result = self._readers[_kind(tree)](tree)
        self._depth -= 1
        return result

    def _descend(self, tree: Any, message: str = TOO_DEEP, help: str | None = "name its parts: `part = ...`") -> None:
        self._depth += 1
        if self._depth > DEEPEST_EXPRESSION:
            raise CnnError.of("limit", message, self._span(tree), help=help)

    def _expressions(self, trees: Sequence[Any]) -> tuple[syntax.Expression, ...]:
        return tuple(self._expression(t) for t in trees)

    def _pair(self, trees: Sequence[Any]) -> tuple[syntax.Expression, syntax.Expression]:
        left, right = trees
        return self._expression(left), self._expression(right)

    def _conditional(self, tree: Any) -> syntax.Conditional:
        then, test, *otherwise = map(self._expression, tree.children)
        return syntax.Conditional(then, test, otherwise[0] if otherwise else None, self._span(tree))

    def _operation(self, tree: Any) -> syntax.Binary:
        left, operator, right = tree.children
        return syntax.Binary(str(operator), self._expression(left), self._expression(right), self._span(tree))

    def _unary(self, tree: Any) -> syntax.Unary:
        operator, operand = tree.children
        return syntax.Unary(str(operator), self._expression(operand), self._span(tree))

    def _call(self, tree: Any) -> syntax.Call:
        function, *arguments = tree.children
        given = self._entries(arguments, tree)
        return syntax.Call(self._name(function), tuple(map(self._argument, given)), self._span(tree))

    def _argument(self, tree: Any) -> syntax.Argument:
        name, *_, value = tree.children
        return syntax.Argument(self._optional_name(name), self._expression(value), self._span(tree))

    def _branches(self, tree: Any) -> syntax.Branches:
        keyword, *branches = tree.children
        return syntax.Branches(self._name(keyword), tuple(map(self._branch, _present(branches))), self._span(tree))

    def _branch(self, tree: Any) -> syntax.Branch:
        label, value = tree.children
        return syntax.Branch(self._optional_name(label), self._expression(value), self._span(tree))

    def _entries(self, children: Sequence[Any], tree: Any) -> list[Any]:
        """The children of a pair of brackets. Raises CnnError("limit") where there are too many."""
        entries = _present(children)
        if len(entries) > MOST_ENTRIES:
            message = f"{len(entries):,} entries in a pair of brackets; at most {MOST_ENTRIES:,} are read"
            raise CnnError.of("limit", message, self._span(tree))
        return entries

    def _name(self, token: Any) -> syntax.Name:
        return syntax.Name(self._bounded(token, LONGEST_NAME, "name"), self._span(token))

    def _string(self, token: Any) -> str:
        return self._bounded(token[1:-1], LONGEST_STRING, "string", token)

    def _bounded(self, text: str, most: int, noun: str, token: Any = None) -> str:
        if len(text) > most:
            message = f"a {noun} of {len(text):,} characters; at most {most:,} are read"
            raise CnnError.of("limit", message, self._span(token or text))
        return str(text)

    def _optional_name(self, token: Any) -> syntax.Name | None:
        return None if token is None else self._name(token)

    def _sizes(self, token: Any) -> tuple[int, ...]:
        return tuple(int(size) for size in self._digits(token).split("x"))

    def _integer(self, token: Any) -> int:
        return int(self._digits(token))

    def _digits(self, token: Any) -> str:
        """The digits of a number; a number too long to mean anything is refused before it is read."""
        span = Span(self._source, token.start_pos, token.end_pos)
        if len(token) > MOST_DIGITS:
            raise CnnError.of("limit", f"a number of {len(token):,} digits; at most {MOST_DIGITS} are read", span)
        return str(token).replace("_", "")

    def _span(self, tree: Any) -> Span:
        return Span(self._source, tree.start_pos, tree.end_pos)


def _kind(tree: Any) -> str:
    kind: str = tree.data
    return kind


def _present(children: Sequence[Any]) -> list[Any]:
    """The children that are there."""
    return [child for child in children if child is not None]
