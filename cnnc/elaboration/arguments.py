"""The arguments of a layer where it is used: bound to parameters, scaled, fitted to the turn of a repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cnnc.diagnostics import Span
from cnnc.elaboration import binding
from cnnc.elaboration.expressions import argument, evaluate
from cnnc.elaboration.graph_builder import MOST_NODES
from cnnc.elaboration.scaling import Scale, round_channels, round_repeats
from cnnc.elaboration.values import Count, Scope, Turn
from cnnc.frozen import dataclass
from cnnc.language import syntax
from cnnc.ops import Op
from cnnc.ops.signature import REQUIRED, Parameter, Type, signature_of


@dataclass(frozen=True)
class ScopedArgument(syntax.Argument):
    """An argument with the scope it was written in."""

    scope: Scope


def bind_block(
    callee: str,
    parameters: Sequence[Parameter],
    arguments: tuple[ScopedArgument, ...],
    site: Scope,
    span: Span,
    inner: Scope,
    scale: Scale,
    *,
    turn: Turn | None,
) -> None:
    """Give a block's parameters their values, in `inner`.

    Args:
        callee: the block's name.
        parameters: the block's, as `parameters_of` makes them.
        arguments: its arguments.
        site: where it is called from.
        span: the call.
        inner: the scope of the block's body.
        scale: the factors for what the model's body states.
        turn: the turn of the repeat whose body it is, to the first of which its stride belongs.
    """
    matched = binding.match(callee, parameters, arguments, span)
    for parameter in parameters:
        name = parameter.name
        own = matched.get(name)
        if own is not None:
            value, at = _value(own, parameter, scale, turn)
        else:
            value, at = argument(parameter.default, parameter, inner)
            if site.scales:
                value = _scaled(value, parameter.type, scale)
            if name == "stride" and turn is not None and turn.repeat > 0:
                value = 1
        if parameter.type.kind != "layer":
            value = binding.check(value, parameter.type, name, at)
        inner.define(name, value, 0 if parameter.default is REQUIRED else parameter.default.span.end)


def bind_operator(
    kind: type[Op], arguments: tuple[ScopedArgument, ...], span: Span, scale: Scale, *, turn: Turn | None
) -> tuple[Mapping[str, Any], Mapping[str, Span]]:
    """An operator's attributes as far as they are written, and where each is written; see `bind_block`."""
    cls: type = kind
    if not arguments and not _is_demanding(cls):
        return {}, {}
    matched = binding.match(kind.names[0], signature_of(kind), arguments, span)
    attributes: dict[str, Any] = {}
    for name, own in matched.items():
        parameter = _named_parameters(cls)[name]
        value, at = _value(own, parameter, scale, turn)
        attributes[name] = binding.convert(value, parameter.type, name, at)
    return attributes, {name: own.span for name, own in matched.items()}


@cache
def _named_parameters(kind: type) -> Mapping[str, Parameter]:
    return {parameter.name: parameter for parameter in signature_of(kind)}


@cache
def _is_demanding(kind: type) -> bool:
    """Whether an operator has a parameter that must be given."""
    return any(parameter.default is REQUIRED for parameter in signature_of(kind))


def _value(own: ScopedArgument, parameter: Parameter, scale: Scale, turn: Turn | None) -> tuple[Any, Span]:
    """The value of an argument, scaled where the model's body states it, and the span to blame.

    A stride belongs to the first turn; a list for each repeat says so itself.
    """
    expression, scope = own.value, own.scope
    value, at = argument(expression, parameter, scope)
    if turn is not None and turn.repeat > 0 and parameter.name == "stride":
        is_listed = not turn.by_stage and _is_list(expression, scope)
        return value if is_listed else 1, at
    return _scaled(value, parameter.type, scale) if scope.scales else value, at


def _scaled(value: Any, type: Type, scale: Scale) -> Any:
    """A number of channels or repeats, scaled; any other value as it is."""
    if isinstance(value, Count | bool) or not isinstance(value, int):
        return value
    if type.kind == "channels" and value > 0:
        return Count(round_channels(value, scale.width))
    if type.kind == "repeats" and 0 <= value < MOST_NODES:
        return Count(round_repeats(value, scale.depth))
    return value


def _is_list(expression: syntax.Expression, scope: Scope) -> bool:
    match expression:
        case syntax.ListOf():
            return True
        case syntax.Name():
            return isinstance(scope.value(expression), list)
        case _:
            return isinstance(evaluate(expression, scope), list)
