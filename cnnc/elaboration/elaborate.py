"""One model of a file, with what was asked for beside it, to a graph and a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Source, Span, did_you_mean
from cnnc.elaboration import binding, scaling, train_section
from cnnc.elaboration.block_results import without_unread
from cnnc.elaboration.expander import Expander
from cnnc.elaboration.expressions import argument, number
from cnnc.elaboration.graph_builder import LimitReached
from cnnc.elaboration.location import Location
from cnnc.elaboration.names import declared_type, input_names, labels
from cnnc.elaboration.namespace import CompilationUnit, Namespace
from cnnc.elaboration.scaling import Scale
from cnnc.elaboration.values import POISON, Count, Layer, Poison, Poisoned, Scope, Tensor
from cnnc.ir import Graph, Node
from cnnc.language import parse_part, syntax
from cnnc.ops import Input, OpError, format_shape
from cnnc.ops.signature import REQUIRED, Parameter
from cnnc.overrides import Overrides
from cnnc.recipe import Recipe

DEFAULT_INPUT = (224, 224, 3)
"""The input of a model that declares none."""
_FACTORS = ("width", "depth", "resolution")
_NO_BLOCKS = Namespace({})
_SCALES = (*_FACTORS, "phi", "input")


@dataclass
class _Request:
    """The scales, inputs and parameters asked for, the variant's first, flags over them."""

    factors: dict[str, float]
    phi: float | None
    inputs: dict[str | None, tuple[int, ...]]
    settings: dict[str, syntax.Argument]


def build(
    unit: CompilationUnit, model: syntax.Model, name: str, overrides: Overrides
) -> tuple[Graph | None, Recipe, list[Diagnostic]]:
    """The graph, None where an error leaves none, the recipe, and all diagnostics.

    Args:
        unit: the file that the model is in.
        model: the model.
        name: the graph's name.
        overrides: flags.
    """
    try:
        request = _read_request(unit.file, overrides)
        scale = _scale(unit.file, request)
        expander = Expander(scale)
        scope = Scope(unit.namespace, {}, None, scales=True)
        _set_parameters(model, request, scope, expander)
    except CnnError as error:
        return None, Recipe(), list(error.diagnostics)
    graph: Graph | None = None
    try:
        graph = _expand(model, name, request, scale, scope, expander)
    except LimitReached as reached:
        expander.report(CnnError.of("limit", str(reached), reached.span), Location())
    except Poisoned:
        assert expander.diagnostics, "poison without a reported error"
    diagnostics = list(expander.diagnostics.values())
    recipe = Recipe()
    for train in unit.file.trains[:1]:
        outputs = [label for label, _ in graph.outputs] if graph else []
        recipe, faults = train_section.read(train, scope.at(math.inf), outputs)
        diagnostics.extend(f for f in faults if graph or f.code != "name" or "no output" not in f.message)
    return (None if diagnostics else graph), recipe, diagnostics


# What is asked for


def _read_request(file: syntax.File, overrides: Overrides) -> _Request:
    request = _Request({}, None, {}, {})
    if overrides.variant is not None:
        for setting in find_variant(file, overrides.variant).settings:
            _apply_setting(setting, request)
    if overrides.phi is not None:
        request.phi = overrides.phi
        request.factors.clear()  # the variant's: a flag goes over them
    for factor in _FACTORS:
        value = getattr(overrides, factor)
        if value is not None:
            request.factors[factor] = _positive(float(value), factor)
    if overrides.input:
        request.inputs = dict(overrides.input)
    for name, text in overrides.settings:
        request.settings[name] = parse_setting(name, text)
    return request


def find_variant(file: syntax.File, name: str) -> syntax.Variant:
    """The variant of a name. Raises CnnError("name") with those there are."""
    for variant in file.variants:
        if variant.name.text == name:
            return variant
    names = [v.name.text for v in file.variants]
    if not names:
        raise CnnError.of("name", f"there is no variant `{name}`: the spec has none")
    help = did_you_mean(name, names) or f"its variants are {', '.join(names)}"
    raise CnnError.of("name", f"there is no variant `{name}`", help=help)


def _apply_setting(setting: syntax.Argument, request: _Request) -> None:
    """A setting of a variant: one of the scales, or a parameter of the model."""
    if setting.name is None:
        raise CnnError.of("syntax", "a variant sets values by name: width=1.1", setting.span)
    name = setting.name.text
    if name == "input":
        if not isinstance(setting.value, syntax.Dims | syntax.Constant):
            raise CnnError.of("type", "an input is a size such as 224x224x3", setting.value.span)
        value = setting.value.sizes if isinstance(setting.value, syntax.Dims) else (setting.value.value,)
        request.inputs[None] = tuple(int(size) for size in value)
    elif name in _SCALES:
        if not isinstance(setting.value, syntax.Constant) or isinstance(setting.value.value, str | bool):
            raise CnnError.of("type", f"`{name}` is a number", setting.value.span)
        if name == "phi":
            request.phi = float(setting.value.value)
        else:
            request.factors[name] = _positive(float(setting.value.value), name, setting)
    else:
        request.settings[name] = setting


def _positive(value: float, name: str, setting: syntax.Argument | None = None) -> float:
    if not (math.isfinite(value) and 0 < value <= 1000):
        span = setting.value.span if setting else None
        message = f"`{name}` is {value:g}, but a factor is above 0 and at most 1000"
        raise CnnError.of("value", message, span, help="nothing would be left of the network" if value <= 0 else None)
    return value


def parse_setting(name: str, text: str) -> syntax.Argument:
    """`--set name=text` as an argument. Raises CnnError("syntax") for what is no value."""
    source = Source("--set", f"{name}={text}")
    whole, start = Span(source, 0, len(source.text)), len(name) + 1
    models = parse_part(Span(source, start, whole.end)).models
    flow = models[0].body[0] if models and len(models[0].body) == 1 else None
    if not isinstance(flow, syntax.Flow) or flow.label is not None:
        raise CnnError.of("syntax", f"`{text}` is not a value for `{name}`", whole)
    return syntax.Argument(syntax.Name(name, Span(source, 0, len(name))), flow.value, whole)


def _scale(file: syntax.File, request: _Request) -> Scale:
    """The factors: those of the coefficient's rule, or else Tan & Le's, under those asked for by name."""
    factors: dict[str, float] = {}
    if request.phi is not None:
        if not (math.isfinite(request.phi) and abs(request.phi) <= 64):
            raise CnnError.of("value", f"`phi` is {request.phi:g}, but a coefficient is from -64 to 64")
        rule = file.scales[0] if file.scales else None
        if rule is None:
            factors = {f: getattr(scaling.compound(request.phi), f) for f in _FACTORS}
        else:
            factors = _rule(rule, request.phi)
    factors.update(request.factors)
    return Scale(**factors)


def _rule(rule: syntax.Scale, coefficient: float) -> dict[str, float]:
    scope = Scope(_NO_BLOCKS, {rule.coefficient.text: coefficient}, None, scales=False)
    factors: dict[str, float] = {}
    for line in rule.rules:
        if line.name.text not in _FACTORS:
            help = did_you_mean(line.name.text, _FACTORS) or f"the factors are {', '.join(_FACTORS)}"
            raise CnnError.of("name", f"`{line.name.text}` is not a factor of scaling", line.name.span, help=help)
        value = float(number(line.value, scope))
        factors[line.name.text] = _positive(value, line.name.text, syntax.Argument(None, line.value, line.span))
    return factors


def check_rules(file: syntax.File) -> list[Diagnostic]:
    """The diagnostics of the `scale` rules of a file, whether or not they are used."""
    diagnostics: list[Diagnostic] = []
    for rule in file.scales:
        try:
            _rule(rule, 1.0)
        except CnnError as error:
            diagnostics.extend(error.diagnostics)
    return diagnostics


# Parameters


def _set_parameters(model: syntax.Model, request: _Request, scope: Scope, expander: Expander) -> None:
    """The model's parameters as asked for, or by default, into the scope."""
    names = [p.name.text for p in model.parameters]
    for name, setting in request.settings.items():
        if name not in names:
            help = did_you_mean(name, [*names, *_SCALES])
            if help is None:
                help = f"its parameters are {', '.join(names)}" if names else "it has no parameters"
            span = setting.name.span if setting.name else setting.span
            raise CnnError.of("name", f"the model has no parameter `{name}`", span, help=help)
    for definition in model.parameters:
        name = definition.name.text
        try:
            value = _parameter(definition, request.settings.get(name), scope)
        except CnnError as error:
            expander.report(error, Location())
            value = POISON
        except Poisoned:
            value = POISON
        scope.define(name, value, definition.span.end)


def _parameter(definition: syntax.ParameterDef, setting: syntax.Argument | None, scope: Scope) -> Any:
    name = definition.name.text
    parameter = Parameter(name, declared_type(definition), definition.default or REQUIRED)
    expression = setting.value if setting else definition.default
    if expression is None:
        message = f"the model's parameter `{name}` has no value"
        raise CnnError.of("argument", message, definition.span, help=f"give it a default, or --set {name}=...")
    if parameter.type.kind == "string" and isinstance(expression, syntax.Name) and setting is not None:
        return expression.text
    value, span = argument(expression, parameter, scope if setting is None else scope.at(definition.span.start))
    if isinstance(value, Layer):
        return value
    value = binding.check(value, parameter.type, name, span)
    return int(value) if isinstance(value, Count) else value


# Expansion


def _expand(
    model: syntax.Model, name: str, request: _Request, scale: Scale, scope: Scope, expander: Expander
) -> Graph | None:
    declared = [s for s in model.body if isinstance(s, syntax.Input)]
    try:
        inputs = _inputs(model, declared, request, scale, scope, expander)
    except CnnError as error:
        expander.report(error, Location())
        return None
    only = inputs[0] if len(inputs) == 1 else None
    scope.incoming = only
    x = expander.body(model.body, scope, Location(taken=labels(model.body)), only)
    if len(expander.diagnostics) >= MOST_REPORTED:
        return None
    try:
        outputs = _outputs(model, scope, x, only)
    except CnnError as error:
        expander.report(error, Location())
        return None
    if expander.diagnostics:
        return None
    graph = without_unread(expander.builder.finish(name, outputs), scope.values)
    loose = _loose_ends(graph)
    known = labels(model.body)
    wanted = [name for name in dict.fromkeys(node.split(".")[0] for _, node in outputs) if name in known]
    wanted += [name for name in dict.fromkeys(node.name.split(".")[0] for node in loose) if name in known]
    for node in loose:
        expander.report(_loose(node, wanted), Location())
    return graph


def _inputs(
    model: syntax.Model,
    declared: list[syntax.Input],
    request: _Request,
    scale: Scale,
    scope: Scope,
    expander: Expander,
) -> list[Tensor]:
    names = [name.text for name in input_names(model)]
    for wanted in request.inputs:
        if wanted is not None and wanted not in names:
            help = did_you_mean(wanted, names) or f"its inputs are {', '.join(names)}"
            raise CnnError.of("name", f"the model has no input `{wanted}`", help=help)
        if wanted is None and len(names) > 1:
            message = f"the model has {len(names)} inputs"
            raise CnnError.of("input", message, help=f"say which one: --input {names[0]}=DIMS")
    tensors = []
    for index, name in enumerate(names):
        statement = declared[index] if declared else None
        dims = request.inputs.get(name, request.inputs.get(None, statement.dims if statement else DEFAULT_INPUT))
        dtype: Literal["int", "float"] = "int" if statement and statement.dtype else "float"
        span = statement.span if statement else model.span
        if len(dims) > 4:
            message = f"an input has at most 3 spatial axes and its channels, but {format_shape(dims)} has {len(dims)}"
            raise CnnError.of("shape", message, span)
        if min(dims, default=0) < 1:
            raise CnnError.of("value", f"the sizes of an input count from 1, but this is {format_shape(dims)}", span)
        if dtype == "float" and len(dims) > 1:
            dims = (*(scaling.scale_size(size, scale.resolution) for size in dims[:-1]), dims[-1])
        try:
            tensor = expander.builder.add(name, Input(dims, dtype), (), (), Location().origin(span))
        except OpError as error:
            raise CnnError.of(error.code, error.message, span, help=error.help) from None
        scope.values[name] = tensor
        tensors.append(tensor)
    return tensors


def _outputs(
    model: syntax.Model, scope: Scope, x: Tensor | Poison | None, only: Tensor | None
) -> list[tuple[str, str]]:
    statements = [s for s in model.body if isinstance(s, syntax.Output)]
    span = model.name.span if model.name else model.span
    if not statements:
        if isinstance(x, Poison):
            raise Poisoned
        if x is None or x == only:
            raise CnnError.of("output", "the model has no layers", span)
        return [("output", x.node)]
    outputs: dict[str, str] = {}
    for name in (n for s in statements for n in s.names):
        if name.text not in scope.values:
            raise CnnError.of("name", f"nothing is named `{name.text}`", name.span)
        value = scope.values[name.text]
        if isinstance(value, Poison):
            raise Poisoned
        if not isinstance(value, Tensor):
            raise CnnError.of("output", f"`{name.text}` is not a result of the network", name.span)
        if name.text in outputs:
            raise CnnError.of("duplicate", f"the output `{name.text}` is given twice", name.span)
        outputs[name.text] = value.node
    return list(outputs.items())


def _loose_ends(graph: Graph) -> list[Node]:
    """Nodes that nothing reads and that are no output."""
    shown = {node for _, node in graph.outputs}
    return [node for node in graph if not graph.consumers[node.name] and node.name not in shown]


def _loose(node: Node, outputs: list[str]) -> CnnError:
    """The error of a node that nothing reads; `outputs` are all labels that could be declared as outputs."""
    assert node.origin is not None
    span = node.origin.frames[0].span if node.origin.frames else node.origin.span
    label = node.name.split(".")[0]
    if isinstance(node.op, Input):
        message = f"nothing reads the input `{node.name}`"
        return CnnError.of("input", message, span, help=f"start a line with `{label} |`")
    help = f"if it is an output: output {', '.join(outputs)}"
    if label not in outputs:
        help = "if it is an output, give its line a label and declare that: output ..."
    return CnnError.of("output", f"the result of `{node.name}` leads nowhere", span, help=help)
