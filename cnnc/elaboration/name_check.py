"""Names and arguments checked where they are written, whether or not the expansion comes that way.

Finds every misspelt name of a file in one run, in blocks that nothing calls and branches that are not taken, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Label, did_you_mean
from cnnc.elaboration import arithmetic, binding
from cnnc.elaboration.expander import MERGES
from cnnc.elaboration.expressions import (
    ATTRIBUTES,
    IDENTITY,
    SHARED,
    SHARED_PARAMETERS,
    TURN,
    TYPES,
    declared_type,
    no_attribute,
    unknown_among,
)
from cnnc.elaboration.location import branch_labels, labels
from cnnc.elaboration.namespace import Namespace
from cnnc.elaboration.timm_blocks import TIMM
from cnnc.language import syntax
from cnnc.ops import OPS
from cnnc.ops.signature import PADDINGS, REQUIRED, Parameter, Type, signature_of

_RESERVED = {"width", "depth", "resolution", "input", "phi"}
_ANY = Type("any")


def resolve(file: syntax.File, namespace: Namespace) -> list[Diagnostic]:
    """The diagnostics of all names and arguments of a file, in the order they are written."""
    found: list[Diagnostic] = []
    for block in file.blocks:
        if block.name.text in OPS or block.name.text in (IDENTITY, SHARED, TIMM, *arithmetic.FUNCTIONS):
            message = f"`{block.name.text}` is a layer of the language; a block needs another name"
            found.extend(CnnError.of("duplicate", message, block.name.span).diagnostics)
        found.extend(_Resolver(namespace, file).definition(block.parameters, block.body, is_model=False))
    for model in file.models:
        found.extend(_Resolver(namespace, file).definition(model.parameters, model.body, is_model=True))
    return found


class _Resolver:
    """Walks one definition; `known` are the names that stand for a value so far."""

    def __init__(self, namespace: Namespace, file: syntax.File) -> None:
        self._namespace = namespace
        self._file = file
        self._later: dict[str, syntax.Name] = {}
        self._outside: set[str] = set()
        self._known: dict[str, syntax.Name | None] = {}
        self._layers: set[str] = set()
        self._found: list[Diagnostic] = []

    def definition(
        self, parameters: Sequence[syntax.ParameterDef], body: Sequence[syntax.Statement], *, is_model: bool
    ) -> list[Diagnostic]:
        for parameter in parameters:
            self._guarded(partial(self._parameter, parameter, is_model))
        self._later = {name.text: name for name in _defined(body)}
        if not is_model:
            self._outside = {p.name.text for model in self._file.models for p in model.parameters}
            self._outside |= {name.text for model in self._file.models for name in _defined(model.body)}
        self._statements(body, is_model)
        for output in (each for each in body if is_model and isinstance(each, syntax.Output)):
            self._outputs(output)
        return sorted(self._found, key=_position)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except CnnError as error:
            self._found.extend(error.diagnostics)

    def _parameter(self, parameter: syntax.ParameterDef, is_model: bool) -> None:
        if is_model and parameter.name.text in _RESERVED:
            message = f"`{parameter.name.text}` is what every model is scaled by; a parameter needs another name"
            self._fail("duplicate", message, parameter.name)
        type = _ANY
        try:
            type = declared_type(parameter)
        finally:
            if parameter.default is not None:
                self._value(parameter.default, type)
            if type.kind in ("layer", "tensor"):
                self._layers.add(parameter.name.text)
            self._define(parameter.name)

    def _define(self, name: syntax.Name) -> None:
        if name.text in self._known:
            first = self._known[name.text]
            secondary = [Label(first.span, "first here")] if first else []
            self._found.extend(
                CnnError.of("duplicate", f"`{name.text}` is defined twice", name.span, secondary=secondary).diagnostics
            )
        elif name.text in TURN:
            self._fail("duplicate", f"`{name.text}` is the language's own name", name)
        else:
            self._known[name.text] = name

    def _fail(self, code: str, message: str, name: syntax.Name, help: str | None = None) -> None:
        self._found.extend(CnnError.of(code, message, name.span, help=help).diagnostics)

    # Statements

    def _statements(self, body: Sequence[syntax.Statement], is_model: bool) -> None:
        for statement in body if is_model else ():
            if isinstance(statement, syntax.Input):
                self._define(statement.name or syntax.Name("input", statement.span))
                if statement.dtype is not None and statement.dtype.text != "int":
                    message = f"an input holds numbers, or `int`, not `{statement.dtype.text}`"
                    self._fail("type", message, statement.dtype, did_you_mean(statement.dtype.text, ["int"]))
        for statement in body:
            if len(self._found) >= MOST_REPORTED:
                return
            self._statement(statement, is_model)

    def _statement(self, statement: syntax.Statement, is_model: bool) -> None:
        match statement:
            case syntax.Assignment(name=name, value=value):
                self._value(value, _ANY)
                self._define(name)
                self._layers.add(name.text)
            case syntax.Flow(label=label, value=value):
                self._layer(value)
                if label is not None:
                    self._define(label)
            case syntax.If(test=test, then=then, otherwise=otherwise):
                self._value(test, _ANY)
                before = dict(self._known)
                self._statements(then, False)
                after = self._known
                self._known = before
                self._statements(otherwise, False)
                self._known = after | self._known
            case syntax.Input(span=span):
                if not is_model:
                    message = "an input is declared at the top of a model"
                    self._found.extend(CnnError.of("input", message, span).diagnostics)
            case syntax.Output(span=span):
                if not is_model:
                    message = "outputs are declared at the top of a model"
                    self._found.extend(CnnError.of("output", message, span).diagnostics)

    def _outputs(self, output: syntax.Output) -> None:
        """An output names what is known at the end of the model, wherever it is declared."""
        for name in output.names:
            if name.text not in self._known:
                self._fail("name", f"nothing is named `{name.text}`", name, did_you_mean(name.text, self._known))

    # Expressions that are layers

    def _layer(self, layer: syntax.Expression) -> None:
        match layer:
            case syntax.Pipeline(items=items):
                for item in items:
                    self._layer(item)
            case syntax.Repeat(count=count, body=body):
                self._value(count, Type("repeats"))
                self._layer(body)
            case syntax.Conditional(then=then, test=test, otherwise=otherwise):
                self._layer(then)
                self._value(test, _ANY)
                if otherwise is not None:
                    self._layer(otherwise)
            case syntax.Branches(branches=branches):
                for branch in branches:
                    self._layer(branch.value)
                    if branch.label is not None:
                        self._define(branch.label)
            case syntax.Name():
                self._guarded(partial(self._callee, layer, (), layer))
            case syntax.Call(function=function, arguments=arguments):
                self._guarded(partial(self._callee, function, arguments, layer))
            case _:
                self._value(layer, _ANY)

    def _callee(
        self,
        name: syntax.Name,
        arguments: tuple[syntax.Argument, ...],
        whole: syntax.Name | syntax.Call,
        *,
        partial: bool = False,
    ) -> None:
        """Check a layer's name and bind its arguments. A name that stands for a value is left to the expansion.

        With `partial` the layer is a value, and whoever uses it may add the arguments that are missing.
        """
        if name.text in MERGES:
            for argument in arguments:
                self._layer(argument.value)
            return
        parameters = self._parameters_of(name.text)
        if parameters is None:
            for argument in arguments:
                self._value(argument.value, _ANY)
            if name.text not in self._known and name.text != TIMM:
                raise self._unknown(name)
            return
        types = dict.fromkeys(range(len(arguments)), _ANY)
        try:
            matched = binding.match(name.text, parameters, arguments, whole.span, partial=partial)
            by_argument = {id(matched[p.name]): p for p in parameters if p.name in matched}
            types = {i: by_argument[id(a)].type for i, a in enumerate(arguments)}
        finally:
            for index, argument in enumerate(arguments):
                self._value(argument.value, types[index])

    def _parameters_of(self, name: str) -> Sequence[Parameter] | None:
        if name in self._known and (name in self._layers or (name not in OPS and not self._namespace.find(name))):
            return None
        if name in OPS:
            return signature_of(OPS[name])
        block = self._namespace.find(name)
        if block is not None:
            return [
                Parameter(p.name.text, _lenient_type(p), REQUIRED if p.default is None else p.default)
                for p in block.definition.parameters
            ]
        if name == SHARED:
            return SHARED_PARAMETERS
        return () if name == IDENTITY else None

    # Expressions that are values

    def _value(self, expression: syntax.Expression, type: Type) -> None:
        match expression:
            case syntax.Name(text=text):
                if not self._is_word(text, type) and not self._is_known(text):
                    self._found.extend(self._unknown(expression, *_words(type)).diagnostics)
            case syntax.Call(function=function, arguments=arguments) if function.text in arithmetic.FUNCTIONS:
                self._guarded(partial(arithmetic.check_count, function.text, arguments, expression.span))
                for argument in arguments:
                    self._value(argument.value, _ANY)
            case syntax.Attribute(value=value, name=name):
                self._value(value, _ANY)
                if name.text not in ATTRIBUTES and not (isinstance(value, syntax.Name) and self._is_inner(name.text)):
                    self._found.extend(no_attribute(name).diagnostics)
            case syntax.Conditional(then=then, test=test, otherwise=otherwise) if otherwise is not None:
                self._value(test, _ANY)
                self._value(then, type)
                self._value(otherwise, type)
            case syntax.Call(function=function, arguments=arguments):
                self._guarded(lambda: self._callee(function, arguments, expression, partial=True))
            case syntax.Pipeline() | syntax.Repeat() | syntax.Branches() | syntax.Conditional():
                self._layer(expression)
            case _:
                for part in _parts(expression):
                    self._value(part, type if isinstance(expression, syntax.ListOf) else _ANY)

    def _is_inner(self, text: str) -> bool:
        """Whether a block has this label, so that a tensor may have it."""
        blocks = filter(None, map(self._namespace.find, self._namespace.names()))
        return any(text in labels(block.definition.body) for block in blocks)

    def _is_word(self, text: str, type: Type) -> bool:
        return text in _words(type)

    def _is_known(self, text: str) -> bool:
        return (
            text in self._known
            or text in TURN
            or text in OPS
            or text == IDENTITY
            or self._namespace.find(text) is not None
        )

    def _unknown(self, name: syntax.Name, *words: str) -> CnnError:
        if name.text in self._later:
            secondary = [Label(self._later[name.text].span, "defined here")]
            return CnnError.of("name", f"`{name.text}` is used before it is defined", name.span, secondary=secondary)
        if name.text in self._outside:
            help = f"a block sees nothing of its caller: give it a parameter `{name.text}`"
            return CnnError.of("name", f"nothing is named `{name.text}` in a block", name.span, help=help)
        return unknown_among(name, {SHARED, TIMM, *self._namespace.names(), *self._known, *words})


def _position(diagnostic: Diagnostic) -> int:
    return 0 if diagnostic.primary is None else diagnostic.primary.span.start


def _defined(body: Sequence[syntax.Statement]) -> Iterator[syntax.Name]:
    """The labels and assigned names of a body, those inside `if` and of branches included."""
    for statement in body:
        match statement:
            case syntax.Assignment(name=name):
                yield name
            case syntax.Flow(label=label, value=value):
                if label is not None:
                    yield label
                yield from branch_labels(value)
            case syntax.If(then=then, otherwise=otherwise):
                yield from _defined((*then, *otherwise))
            case _:
                pass


def _lenient_type(parameter: syntax.ParameterDef) -> Type:
    """The declared type; a type that does not exist is reported where it is declared."""
    return _ANY if parameter.type is not None and parameter.type.text not in TYPES else declared_type(parameter)


def _words(type: Type) -> tuple[str, ...]:
    words = (*type.choices, *(("auto",) if type.optional else ()))
    return (*words, *PADDINGS) if type.kind == "padding" else words


def _parts(expression: syntax.Expression) -> Iterator[syntax.Expression]:
    match expression:
        case syntax.ListOf(items=items):
            yield from items
        case syntax.Binary(left=left, right=right):
            yield from (left, right)
        case syntax.Unary(operand=operand):
            yield operand
        case _:
            pass
