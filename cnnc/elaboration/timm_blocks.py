"""timm's block strings, `ir_r2_k3_s2_e6_c24_se0.25`, as stages of the prelude's blocks.

The notation is MnasNet's (Tan et al. 2019) as timm extends it. Every token must be known here; none is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cnnc.diagnostics import CnnError, Span
from cnnc.elaboration import binding
from cnnc.elaboration.arguments import ScopedArgument
from cnnc.elaboration.arithmetic import show_value, type_name
from cnnc.elaboration.expressions import argument, evaluate
from cnnc.elaboration.names import FORMS, TIMM
from cnnc.elaboration.values import Scope
from cnnc.language import syntax

_BLOCKS: Mapping[str, tuple[str, frozenset[str]]] = {
    "ir": ("mbconv", frozenset({"r", "k", "s", "e", "c", "se", "n", "d", "noskip"})),
    "er": ("fused_mbconv", frozenset({"r", "k", "s", "e", "c", "se", "n", "noskip"})),
    "ds": ("depthwise_separable", frozenset({"r", "k", "s", "e", "c", "se", "n", "d", "noskip"})),
    "dsa": ("depthwise_separable", frozenset({"r", "k", "s", "e", "c", "se", "n", "d"})),
    "cn": ("conv_bn_act", frozenset({"r", "k", "s", "c", "n", "d"})),
}
"""For each kind of block the prelude's, and the tokens that it takes."""
_PARAMETERS = {
    **{"r": "repeats", "k": "kernel", "s": "stride", "e": "expand", "c": "filters", "se": "se", "d": "dilation"},
    **{"n": "act", "noskip": "skip"},
}
_ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish", "mi": "mish"}
Value = int | float | str | bool
_TOKEN = re.compile(r"(se|[rksecd])(\d+(?:\.\d+)?)")
_REQUIRED = {"k": "kernel", "c": "filters", "e": "expand"}
_WORDS = {"kernel": "kernel", "filters": "filters", "expand": "factor that it expands by"}


def stages(arguments: tuple[ScopedArgument, ...], span: Span) -> tuple[list[syntax.Repeat], Scope]:
    """The stages that `timm(...)` describes, and the scope that they are to be expanded in.

    Raises:
        CnnError: for arguments that do not fit, and the first token at fault.
    """
    matched = binding.match(TIMM, FORMS[TIMM], arguments, span)
    blocks, scope = matched["blocks"].value, matched["blocks"].scope
    texts = evaluate(blocks, scope)
    spans = [item.span for item in blocks.items] if isinstance(blocks, syntax.ListOf) else []
    inner = replace(scope, values={}, ends={})
    layers: dict[str, str] = {}
    for parameter in FORMS[TIMM][1:]:
        layers[parameter.name] = parameter.default
        if parameter.name in matched:
            layers[parameter.name] = f"{TIMM} {parameter.name}"  # no name of the language
            own = matched[parameter.name]
            inner.values[layers[parameter.name]], _ = argument(own.value, parameter, own.scope)
    listed = texts if isinstance(texts, list) else [texts]
    return [_stage(text, spans[n] if spans else blocks.span, layers) for n, text in enumerate(listed)], inner


def _stage(text: object, span: Span, layers: Mapping[str, str]) -> syntax.Repeat:
    """The stage that a block string describes, as the tree of `2 x mbconv(kernel=3, ...)`.

    Args:
        text: the string.
        span: where it is written.
        layers: the names of the activation and the norm, `act` and `norm`, of strings that have no `n` of their own.

    Raises:
        CnnError: `value` or `type`, naming the token at fault.
    """
    if not isinstance(text, str):
        message = f"a block string is wanted, but `{show_value(text)}` is {type_name(text)}"
        raise CnnError.of("type", message, span, help='timm("ir_r2_k3_s2_e6_c24_se0.25")')
    kind, *tokens = text.split("_")
    if kind not in _BLOCKS:
        help = f"the kinds are {', '.join(_BLOCKS)}"
        raise CnnError.of("value", f"`{kind}` in `{text}` is no kind of block", _token_span(span, text, 0), help=help)
    values = _parameters(text, kind, tokens, span)
    repeats = int(values.pop("repeats", 1))
    if kind in ("ds", "dsa") and values.pop("expand", 1) != 1:
        raise CnnError.of("value", f"`{text}`: a depthwise separable block does not expand", span, help="use `ir`")
    if kind == "ir" and values.get("expand") == 1:
        message = f"`{text}`: timm's `ir` of e1 has a 1x1 convolution that expands nothing"
        raise CnnError.of("value", message, span, help="use `ds`, which has none")
    if kind == "ds":
        values = {"skip": True, "last": "identity", **values}
    if kind == "ir":
        values = {"se": 0, **values}  # the prelude's block has a quarter
    values = {**layers, **values}
    arguments = tuple(
        syntax.Argument(syntax.Name(name, span), _expression(value, span), span) for name, value in values.items()
    )
    call = syntax.Call(syntax.Name(_BLOCKS[kind][0], span), arguments, span)
    return syntax.Repeat(syntax.Constant(repeats, span), call, span)


def _parameters(text: str, kind: str, tokens: Sequence[str], span: Span) -> dict[str, Value]:
    """The values that the tokens of a string give, by the names of the block's parameters; and `repeats`."""
    known = _BLOCKS[kind][1]
    values: dict[str, Value] = {}
    for index, token in enumerate(tokens, 1):
        at = _token_span(span, text, index)
        key, value = _parse(token, text, at)
        if key not in known:
            help = f"`{kind}` takes {', '.join(sorted(known))}"
            raise CnnError.of("value", f"`{token}` in `{text}` means nothing to `{kind}`", at, help=help)
        if _PARAMETERS[key] in values:
            raise CnnError.of("value", f"`{text}` gives `{key}` twice", at)
        values[_PARAMETERS[key]] = value
    for token, required in _REQUIRED.items():
        if required not in values and token in known and not (token == "e" and kind in ("ds", "dsa")):
            raise CnnError.of("value", f"`{text}` gives no `{token}`, the {_WORDS[required]}", span)
    return values


def _token_span(span: Span, text: str, index: int) -> Span:
    """The span of a token; the whole one where the string is not written there."""
    if span.text != f'"{text}"':
        return span
    parts = text.split("_")
    start = span.start + 1 + sum(len(part) + 1 for part in parts[:index])
    return Span(span.source, start, start + max(1, len(parts[index])))


def _parse(token: str, text: str, span: Span) -> tuple[str, Value]:
    if token == "noskip":
        return "noskip", False
    if token.startswith("n") and token[1:] in _ACTIVATIONS:
        return "n", _ACTIVATIONS[token[1:]]
    parts = _TOKEN.fullmatch(token)
    fraction = parts is not None and "." in parts[2]
    if parts is None or (fraction and parts[1] not in ("se", "e")):
        message = f"`{token}` in `{text}` is no token of a block string"
        raise CnnError.of("value", message, span, help="it has tokens such as r2, k3, s2, e6, c24, se0.25, nre, noskip")
    return parts[1], float(parts[2]) if fraction else int(parts[2])


def _expression(value: Value, span: Span) -> syntax.Expression:
    return syntax.Name(value, span) if isinstance(value, str) else syntax.Constant(value, span)
