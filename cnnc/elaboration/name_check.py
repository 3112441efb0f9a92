"""Names and arguments checked where they are written, whether or not the expansion comes that way.

Finds every misspelt name of a file in one run, in blocks that nothing calls and branches that are not taken, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain

from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Label, did_you_mean
from cnnc.elaboration import arithmetic, binding
from cnnc.elaboration.names import (
    ATTRIBUTES,
    FORMS,
    MERGES,
    SHARED,
    TIMM,
    TURN,
    declared_type,
    definitions,
    input_names,
    is_layer,
    is_operator_or_block,
    labels,
    no_attribute,
    operator_words,
    signature,
    unknown_name,
)
from cnnc.elaboration.namespace import CompilationUnit, Namespace, prelude
from cnnc.language import syntax
from cnnc.ops import OPS
from cnnc.ops.signature import Parameter, Type

_RESERVED = {"width", "depth", "resolution", "input", "phi"}
_ANY = Type("any")
_ALL_KINDS = ("layer", "result", "plain")
_PLAIN = (syntax.Constant, syntax.Dims, syntax.ListOf, syntax.Binary, syntax.Unary)
_UNKNOWN = Type("unknown")
"""That of an argument of a layer whose parameters are not known: it may be a word of any operator."""


def check_names(unit: CompilationUnit) -> list[Diagnostic]:
    """The diagnostics of all names and arguments of a file and of those it imports, in the order they are written."""
    diagnostics: list[Diagnostic] = []
    for file, namespace in unit.files:
        outside = {p.name.text for model in file.models for p in model.parameters}
        outside |= {name.text for model in file.models for name in definitions(model.body)}
        for block in file.blocks:
            if block.name.text in (*OPS, *FORMS, *arithmetic.FUNCTIONS):
                message = f"`{block.name.text}` is a layer of the language; a block needs another name"
                diagnostics.extend(CnnError.of("duplicate", message, block.name.span).diagnostics)
            diagnostics.extend(_Check(unit, namespace, outside).block(block))
        for model in file.models:
            diagnostics.extend(_Check(unit, namespace, set()).model(model))
    return diagnostics


class _Check:
    """Walks one definition, with the names that stand for a value so far; the model's are those of `outside`."""

    def __init__(self, unit: CompilationUnit, namespace: Namespace, outside: set[str]) -> None:
        self._unit = unit
        self._namespace = namespace
        self._outside = outside
        self._later: dict[str, syntax.Name] = {}
        self._known: dict[str, syntax.Name] = {}
        self._kinds: dict[str, set[str]] = {}
        """The kinds of values that a name may stand for: `layer`, `result`, `plain` for numbers and the like."""
        self._diagnostics: list[Diagnostic] = []

    def block(self, block: syntax.Block) -> list[Diagnostic]:
        """The diagnostics of a block."""
        self._definition(block, is_model=False)
        return sorted(self._diagnostics, key=_position)

    def model(self, model: syntax.Model) -> list[Diagnostic]:
        """The diagnostics of a model."""
        self._definition(model, is_model=True)
        if len(self._diagnostics) < MOST_REPORTED:
            self._outputs(model)
        return sorted(self._diagnostics, key=_position)

    def _definition(self, definition: syntax.Block | syntax.Model, *, is_model: bool) -> None:
        for parameter in definition.parameters:
            self._guarded(partial(self._parameter, parameter, is_model))
        self._later = {name.text: name for name in definitions(definition.body)}
        if isinstance(definition, syntax.Model):
            for name in input_names(definition):
                self._define(name, "result")
        self._statements(definition.body, is_model)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except CnnError as error:
            self._report(error)

    def _report(self, error: CnnError) -> None:
        self._diagnostics.extend(error.diagnostics)

    def _parameter(self, parameter: syntax.ParameterDef, is_model: bool) -> None:
        name = parameter.name
        if is_model and name.text in _RESERVED:
            message = f"`{name.text}` is what every model is scaled by; a parameter needs another name"
            self._report(CnnError.of("duplicate", message, name.span))
        type = _ANY
        try:
            type = declared_type(parameter)
        finally:
            if parameter.default is not None:
                self._value(parameter.default, type)
            kinds = {"any": _ALL_KINDS, "layer": ("layer",), "tensor": ("result",)}.get(type.kind, ("plain",))
            self._define(name, *kinds)

    def _define(self, name: syntax.Name, *kinds: str) -> None:
        if name.text in self._known:
            secondary = [Label(self._known[name.text].span, "first here")]
            message = f"`{name.text}` is defined twice"
            self._report(CnnError.of("duplicate", message, name.span, secondary=secondary))
        elif name.text in TURN:
            self._report(CnnError.of("duplicate", f"`{name.text}` is the language's own name", name.span))
        self._known.setdefault(name.text, name)
        self._kinds.setdefault(name.text, set()).update(kinds)

    # Statements

    def _statements(self, body: Sequence[syntax.Statement], is_model: bool) -> None:
        for statement in body:
            if len(self._diagnostics) >= MOST_REPORTED:
                return
            self._statement(statement, is_model)

    def _kinds_of(self, value: syntax.Expression) -> Collection[str]:
        """The kinds of values that an expression may have."""
        if isinstance(value, syntax.Name) and value.text in self._known:
            return self._kinds[value.text]
        return ("plain",) if isinstance(value, _PLAIN) else _ALL_KINDS

    def _statement(self, statement: syntax.Statement, is_model: bool) -> None:
        match statement:
            case syntax.Assignment(name=name, value=value):
                self._value(value, _ANY)
                self._define(name, *self._kinds_of(value))
            case syntax.Flow(label=label, value=value):
                self._layer(value)
                if label is not None:
                    self._define(label, "result")
            case syntax.If(test=test, then=then, otherwise=otherwise):
                self._value(test, _ANY)
                self._either(partial(self._statements, then, False), partial(self._statements, otherwise, False))
            case syntax.Input(dtype=dtype, span=span):
                if not is_model:
                    self._report(CnnError.of("input", "an input is declared at the top of a model", span))
                elif dtype is not None and dtype.text != "int":
                    message = f"an input holds numbers, or `int`, not `{dtype.text}`"
                    self._report(CnnError.of("type", message, dtype.span, help=did_you_mean(dtype.text, ["int"])))
            case syntax.Output(span=span):
                if not is_model:
                    self._report(CnnError.of("output", "outputs are declared at the top of a model", span))

    def _outputs(self, model: syntax.Model) -> None:
        """An output names a result that is known at the end of the model, wherever it is declared."""
        outputs = (statement for statement in model.body if isinstance(statement, syntax.Output))
        for name in chain.from_iterable(output.names for output in outputs):
            if name.text not in self._known:
                message, help = f"nothing is named `{name.text}`", did_you_mean(name.text, self._known)
                self._report(CnnError.of("name", message, name.span, help=help))

    def _either(self, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Check two parts of which one is expanded: what either defines is known after them."""
        before = dict(self._known)
        then()
        after, self._known = self._known, before
        otherwise()
        self._known = after | self._known

    # Expressions that are layers

    def _layer(self, layer: syntax.Expression) -> None:
        match layer:
            case syntax.Pipeline(items=items):
                for item in items:
                    self._layer(item)
            case syntax.Repeat(count=count, body=body):
                self._value(count, _ANY)
                self._layer(body)
            case syntax.Conditional(then=then, test=test, otherwise=otherwise):
                self._value(test, _ANY)
                if otherwise is None:
                    self._layer(then)
                else:
                    self._either(partial(self._layer, then), partial(self._layer, otherwise))
            case syntax.Branches(branches=branches):
                for branch in branches:
                    self._layer(branch.value)
                    if branch.label is not None:
                        self._define(branch.label, "result")
            case syntax.Name():
                self._guarded(partial(self._call, layer, (), layer))
            case syntax.Call(function=function, arguments=arguments):
                self._guarded(partial(self._call, function, arguments, layer))
            case _:
                self._value(layer, _ANY)

    def _call(
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
        if name.text in MERGES and not self._may_be(name.text, "layer"):
            for argument in arguments:
                self._layer(argument.value)
            return
        types: dict[int, Type] = {}
        try:
            parameters = self._parameters_of(name)
            if parameters is not None:
                matched = binding.match(name.text, parameters, arguments, whole.span, partial=partial)
                types = {id(matched[p.name]): p.type for p in parameters if p.name in matched}
        finally:
            for argument in arguments:
                self._value(argument.value, types.get(id(argument), _UNKNOWN))

    def _is_value(self, name: str) -> bool:
        """Whether a name, used as a layer, stands for a value, as the expansion would have it."""
        if self._may_be(name, "layer", "result"):
            return True
        return name in self._known and not is_operator_or_block(name, self._namespace)

    def _may_be(self, name: str, *kinds: str) -> bool:
        return name in self._known and not self._kinds[name].isdisjoint(kinds)

    def _parameters_of(self, name: syntax.Name) -> Sequence[Parameter] | None:
        """The parameters of a layer; None where they are not known here."""
        if self._is_value(name.text):
            return None
        try:
            parameters = signature(name.text, self._namespace)
        except CnnError:
            return None  # reported where the parameter is declared
        if parameters is None:
            raise self._unknown(name)
        return parameters

    # Expressions that are values

    def _value(self, expression: syntax.Expression, type: Type) -> None:
        match expression:
            case syntax.Name(text=text):
                if not self._is_known(text) and text not in self._words(type):
                    self._report(self._unknown(expression, self._words(type)))
            case syntax.Call(function=function, arguments=arguments) if function.text in arithmetic.FUNCTIONS:
                self._guarded(partial(arithmetic.check_count, function.text, arguments, expression.span))
                for argument in arguments:
                    self._value(argument.value, _ANY)
            case syntax.Attribute(value=value, name=name):
                self._value(value, _ANY)
                if name.text not in ATTRIBUTES and not self._is_label_in_a_block(name.text):
                    self._report(no_attribute(name))
            case syntax.Conditional(then=then, test=test, otherwise=otherwise) if otherwise is not None:
                self._value(test, _ANY)
                self._either(partial(self._value, then, type), partial(self._value, otherwise, type))
            case syntax.Call(function=function, arguments=arguments):
                self._guarded(partial(self._call, function, arguments, expression, partial=True))
            case syntax.Pipeline() | syntax.Repeat() | syntax.Branches() | syntax.Conditional():
                self._layer(expression)
            case syntax.ListOf(items=items):
                for item in items:
                    self._value(item, type)
            case syntax.Binary(left=left, right=right):
                self._value(left, _ANY)
                self._value(right, _ANY)
            case syntax.Unary(operand=operand):
                self._value(operand, _ANY)
            case _:
                pass

    def _words(self, type: Type) -> Collection[str]:
        return operator_words() if type is _UNKNOWN else type.words

    def _is_label_in_a_block(self, text: str) -> bool:
        """Whether any block has this label, so that its result may have it as an attribute."""
        own = (block for file, _ in self._unit.files for block in file.blocks)
        others = (block.definition for block in map(prelude().find, prelude().names()) if block)
        return any(text in labels(block.body) for block in chain(own, others))

    def _is_known(self, text: str) -> bool:
        return text in self._known or text in TURN or is_layer(text, self._namespace)

    def _unknown(self, name: syntax.Name, words: Collection[str] = ()) -> CnnError:
        if name.text in self._later:
            secondary = [Label(self._later[name.text].span, "defined here")]
            return CnnError.of("name", f"`{name.text}` is used before it is defined", name.span, secondary=secondary)
        if name.text in self._outside:
            help = f"a block sees nothing of its caller: give it a parameter `{name.text}`"
            return CnnError.of("name", f"nothing is named `{name.text}` in a block", name.span, help=help)
        return unknown_name(name, {SHARED, TIMM, *self._namespace.names(), *self._known, *words})


def _position(diagnostic: Diagnostic) -> int:
    return 0 if diagnostic.primary is None else diagnostic.primary.span.start
