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
class Given:
    """An argument with the scope it was written in."""

    argument: syntax.Argument
    scope: Scope


def bind_block(
    callee: str,
    parameters: Sequence[Parameter],
    given: tuple[Given, ...],
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
        given: its arguments.
        site: where it is called from.
        span: the call.
        inner: the scope of the block's body.
        scale: the factors for what the model's body states.
        turn: the turn of the repeat whose body it is, to the first of which its stride belongs.
    """
    found = binding.match(callee, parameters, [g.argument for g in given], span)
    scopes = {id(g.argument): g.scope for g in given}
    for parameter in parameters:
        name = parameter.name
        if name in found:
            scope = scopes[id(found[name])]
            value, at = argument(found[name].value, parameter, scope)
            value = _scaled(value, parameter.type, scale if scope.scales else None)
        else:
            value, at = argument(parameter.default, parameter, inner)
            value = _scaled(value, parameter.type, scale if site.scales else None)
        if name == "stride" and _is_for_earlier(turn, found.get(name), site):
            value = 1
        if parameter.type.kind != "layer":
            value = binding.check(value, parameter.type, name, at)
        inner.bind(name, value)


def of_operator(
    kind: type[Op], given: tuple[Given, ...], site: Scope, span: Span, scale: Scale, *, turn: Turn | None
) -> tuple[Mapping[str, Any], Mapping[str, Span]]:
    """An operator's attributes as far as they are given, and where each is written; see `bind_block`."""
    cls: type = kind
    if not given and not _is_demanding(cls):
        return {}, {}
    found = binding.match(kind.names[0], signature_of(kind), [g.argument for g in given], span)
    scopes = {id(g.argument): g.scope for g in given}
    attributes: dict[str, Any] = {}
    for name, written in found.items():
        parameter, scope = _named_parameters(cls)[name], scopes[id(written)]
        value, at = argument(written.value, parameter, scope)
        value = _scaled(value, parameter.type, scale if scope.scales else None)
        if name == "stride" and _is_for_earlier(turn, written, site):
            value = 1
        attributes[name] = binding.convert(value, parameter.type, name, at)
    return attributes, {name: written.span for name, written in found.items()}


@cache
def _named_parameters(kind: type) -> Mapping[str, Parameter]:
    return {parameter.name: parameter for parameter in signature_of(kind)}


@cache
def _is_demanding(kind: type) -> bool:
    """Whether an operator has a parameter that must be given."""
    return any(parameter.default is REQUIRED for parameter in signature_of(kind))


def _scaled(value: Any, type: Type, scale: Scale | None) -> Any:
    """A number of channels or repeats written in the model's body, scaled; any other value as it is."""
    if scale is None or isinstance(value, Count | bool) or not isinstance(value, int):
        return value
    if type.kind == "channels" and value > 0:
        return Count(round_channels(value, scale.width))
    if type.kind == "repeats" and 0 <= value < MOST_NODES:
        return Count(round_repeats(value, scale.depth))
    return value


def _is_for_earlier(turn: Turn | None, written: syntax.Argument | None, site: Scope) -> bool:
    """Whether a stride belongs to an earlier turn than this one; a list for each repeat says so itself."""
    if turn is None or turn.repeat == 0:
        return False
    return turn.by_stage or written is None or not _is_list(written.value, site)


def _is_list(expression: syntax.Expression, scope: Scope) -> bool:
    match expression:
        case syntax.ListOf():
            return True
        case syntax.Name(text=text):
            return isinstance(scope.values.get(text), list)
        case _:
            return isinstance(evaluate(expression, scope), list)
