"""Expressions to values, in a scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cnnc.diagnostics import CnnError, Label, Span
from cnnc.elaboration import arithmetic, binding
from cnnc.elaboration.arithmetic import show_value, type_name
from cnnc.elaboration.names import (
    ATTRIBUTES,
    AXES,
    FORMS,
    SHARED,
    TURN,
    is_layer,
    no_attribute,
    unknown_name,
)
from cnnc.elaboration.values import POISON, Count, Layer, Poisoned, Scope, Shared, Tensor, Turn
from cnnc.language import syntax
from cnnc.ops import format_shape
from cnnc.ops.signature import Parameter, Type


def evaluate(expression: syntax.Expression, scope: Scope) -> Any:
    """The value of an expression: a number, truth value, string, dims, list, layer or tensor.

    Raises:
        CnnError: `name`, `type`, `value` or `limit`, at the part at fault.
        Poisoned: it needs a value that an earlier error left without meaning.
    """
    evaluator = _EVALUATORS.get(type(expression))
    return Layer(expression, scope) if evaluator is None else evaluator(expression, scope)


def truth(expression: syntax.Expression, scope: Scope) -> bool:
    """The truth value of a test."""
    value = evaluate(expression, scope)
    if not isinstance(value, bool):
        message = f"a test is true or false, but `{show_value(value)}` is {type_name(value)}"
        raise CnnError.of("type", message, expression.span, help="compare it: ... != 0")
    return value


def number(expression: syntax.Expression, scope: Scope) -> int | float:
    """The value of an expression that must be a number."""
    value = evaluate(expression, scope)
    if not arithmetic.is_number(value):
        raise CnnError.of(
            "type", f"a number is wanted, but `{show_value(value)}` is {type_name(value)}", expression.span
        )
    assert isinstance(value, int | float)
    return value


def _name(name: syntax.Name, scope: Scope) -> Any:
    value = scope.value(name)
    if value is POISON:
        raise Poisoned
    if value is not None:
        return value
    if name.text in TURN:
        return getattr(scope.turn or Turn(), name.text)
    if is_layer(name.text, scope.namespace):
        return Layer(name, scope)
    raise unknown(name, scope)


def unknown(name: syntax.Name, scope: Scope, others: tuple[str, ...] = ()) -> CnnError:
    """The error for a name that nothing defines."""
    return unknown_name(name, (*scope.namespace.names(), *scope.values, *others))


def _incoming(expression: syntax.Incoming, scope: Scope) -> Tensor:
    if scope.incoming is None:
        message = "`in` could be any of the model's inputs"
        raise CnnError.of("input", message, expression.span, help="use the input's name")
    if not isinstance(scope.incoming, Tensor):
        raise Poisoned
    return scope.incoming


def _attribute(value: Any, name: syntax.Name, span: Span) -> Any:
    if not isinstance(value, Tensor):
        raise CnnError.of("type", f"only a tensor has a `{name.text}`, but this is {type_name(value)}", span)
    if name.text not in ATTRIBUTES:
        return _inner(value, name)
    shape = value.shape
    rank = len(shape) - 1
    if name.text == "before":
        if value.before is None:
            message = f"`{span.text}` is what came into the block that made a result, but no block made this one"
            raise CnnError.of("type", message, span, help="give a parameter of type `tensor` the result that is meant")
        return value.before
    if name.text == "channels":
        return Count(shape[-1])
    if name.text == "shape":
        return shape
    if name.text == "rank":
        return rank
    axes = AXES.get(rank, ())
    if name.text not in axes:
        has = f"has {', '.join(axes)} and channels" if axes else "has channels only"
        message = f"a tensor of {format_shape(shape)} has no `{name.text}`"
        raise CnnError.of("shape", message, span, help=f"it {has}")
    return shape[axes.index(name.text)]


def _inner(value: Tensor, name: syntax.Name) -> Any:
    """The result of a label within the block that made a tensor; a list of all turns' where that was repeated."""
    if name.text not in value.inner:
        raise no_attribute(name, (*ATTRIBUTES, *value.inner))
    result: Any = value.inner[name.text]
    if result is POISON or (isinstance(result, list) and POISON in result):
        raise Poisoned
    return result


def argument(expression: syntax.Expression, parameter: Parameter, scope: Scope) -> tuple[Any, Span]:
    """An argument's value for its parameter and the turn at hand, unchecked, and the span to blame.

    A word that the parameter's type knows (`same`, `nearest`, `auto`) is a string unless the scope defines it.
    """
    type, turn = parameter.type, scope.turn
    if isinstance(expression, syntax.Constant) and type.kind != "layer":
        return expression.value, expression.span
    if turn is not None and isinstance(expression, syntax.ListOf) and type.kind not in ("floats", "padding"):
        check_length(len(expression.items), parameter.name, turn, expression.span)
        expression = turn.pick(list(expression.items))
    value = _value_or_word(expression, type.words, scope) if type.words else evaluate(expression, scope)
    if turn is not None and binding.is_list_for_turns(value, type):
        check_length(len(value), parameter.name, turn, expression.span)
        value = turn.pick(value)
    if type.kind == "layer" and not isinstance(value, Layer):
        raise binding.mismatch(value, type, parameter.name, expression.span)
    return value, expression.span


def _value_or_word(expression: syntax.Expression, words: tuple[str, ...], scope: Scope) -> Any:
    """The value of an expression that may be a word, a list of words, or a choice between words."""
    match expression:
        case syntax.Name(text=text) if scope.value(expression) is None and text not in TURN:
            if text in words:
                return text
            if not is_layer(text, scope.namespace):
                raise unknown(expression, scope, words)
        case syntax.ListOf(items=items):
            return [_value_or_word(item, words, scope) for item in items]
        case syntax.Conditional(then=then, test=test, otherwise=otherwise) if otherwise is not None:
            return _value_or_word(then if truth(test, scope) else otherwise, words, scope)
    return evaluate(expression, scope)


def check_length(length: int, name: str, turn: Turn, span: Span) -> None:
    """Raises CnnError("arity") when a list has not one value for each stage or repeat."""
    if length != turn.length:
        noun = "stage" if turn.by_stage else "repeat"
        message = f"`{name}` lists {length} values for {turn.length} {noun}s"
        secondary = [Label(turn.count, f"{turn.length} {noun}s")] if turn.count else []
        raise CnnError.of("arity", message, span, secondary=secondary)


def _list(expression: syntax.ListOf, scope: Scope) -> list[Any]:
    return [evaluate(item, scope) for item in expression.items]


def _unary(expression: syntax.Unary, scope: Scope) -> Any:
    if expression.operator == "-":
        return arithmetic.negated(evaluate(expression.operand, scope), expression.span)
    return not truth(expression.operand, scope)


def _binary(expression: syntax.Binary, scope: Scope) -> Any:
    left, right = expression.left, expression.right
    match expression.operator:
        case "and":
            return truth(left, scope) and truth(right, scope)
        case "or":
            return truth(left, scope) or truth(right, scope)
        case operator:
            return arithmetic.binary(operator, evaluate(left, scope), evaluate(right, scope), expression.span)


def _conditional(expression: syntax.Conditional, scope: Scope) -> Any:
    if expression.otherwise is None:
        return Layer(expression, scope)
    return evaluate(expression.then if truth(expression.test, scope) else expression.otherwise, scope)


def _call(expression: syntax.Call, scope: Scope) -> Any:
    name = expression.function.text
    if name == SHARED:
        return _shared(expression, scope)
    if name not in arithmetic.FUNCTIONS:
        return Layer(expression, scope)
    arithmetic.check_count(name, expression.arguments, expression.span)
    return arithmetic.call(name, [evaluate(a.value, scope) for a in expression.arguments], expression.span)


def _shared(expression: syntax.Call, scope: Scope) -> Layer:
    binding.match(SHARED, FORMS[SHARED], expression.arguments, expression.span)
    (argument,) = expression.arguments
    value = evaluate(argument.value, scope)
    if not isinstance(value, Layer):
        raise binding.mismatch(value, Type("layer"), "layer", argument.value.span)
    return Layer(value.expression, value.scope, Shared())


_EVALUATORS: Mapping[type, Callable[[Any, Scope], Any]] = {
    syntax.Constant: lambda expression, scope: expression.value,
    syntax.Dims: lambda expression, scope: expression.sizes,
    syntax.Name: _name,
    syntax.Incoming: _incoming,
    syntax.Attribute: lambda e, scope: _attribute(evaluate(e.value, scope), e.name, e.span),
    syntax.ListOf: _list,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.Conditional: _conditional,
    syntax.Call: _call,
}
