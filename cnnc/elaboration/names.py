"""Facts about names, stated once for the check of names and for the expansion.

Which names are the language's own, which a body defines, and which parameters and words a layer takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.elaboration import arithmetic
from cnnc.elaboration.namespace import Namespace
from cnnc.language import syntax
from cnnc.ops import OPS
from cnnc.ops.signature import REQUIRED, Parameter, Type, signature_of

TURN = ("stage", "repeat", "progress")
"""The names of a repeat's counters."""
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
SIZES = ("channels", "length", "height", "width", "depth", "shape", "rank")
ATTRIBUTES = (*SIZES, "before")
TYPES = ("int", "float", "bool", "dims", "channels", "repeats", "layer", "tensor", "string")
MERGES = tuple(name for name, op in OPS.items() if op.arity[1] != 1)
"""The operators that join results."""
BRACED = ("add", "concat", "mul")
"""Those of them whose branches may stand in braces: of any number, in any order or in that of channels."""
IDENTITY = "identity"
SHARED = "shared"
"""`shared(layer)`: one layer, wherever the name for it is used."""
TIMM = "timm"
FORMS: Mapping[str, tuple[Parameter, ...]] = {
    IDENTITY: (),
    SHARED: (Parameter("layer", Type("layer")),),
    TIMM: (
        Parameter("blocks", Type("any")),
        Parameter("act", Type("layer"), "relu"),
        Parameter("norm", Type("layer"), "bn"),
    ),
}
"""The layers of the language that are neither operators nor blocks, with their parameters."""


# Layers


def is_operator_or_block(name: str, namespace: Namespace) -> bool:
    """Whether a name is an operator's or a block's: it is that layer even where the scope has a number of that name."""
    return name in OPS or namespace.find(name) is not None


def is_layer(name: str, namespace: Namespace) -> bool:
    """Whether a name by itself, as a value, is a layer."""
    return name == IDENTITY or is_operator_or_block(name, namespace)


def signature(name: str, namespace: Namespace) -> Sequence[Parameter] | None:
    """The parameters of the language's or a block's layer of a name; None where there is no such layer.

    Raises:
        CnnError: `type`, where a block declares a parameter of a type that does not exist.
    """
    if name in OPS:
        return signature_of(OPS[name])
    block = namespace.find(name)
    return FORMS.get(name) if block is None else parameters_of(block.definition)


@cache
def operator_words() -> frozenset[str]:
    """The words that an argument of any operator may be."""
    return frozenset(word for op in OPS.values() for parameter in signature_of(op) for word in parameter.type.words)


def parameters_of(block: syntax.Block) -> tuple[Parameter, ...]:
    """A block's parameters. Raises CnnError("type") where one is declared to be of a type that does not exist."""
    return tuple(
        Parameter(p.name.text, declared_type(p), REQUIRED if p.default is None else p.default) for p in block.parameters
    )


def declared_type(parameter: syntax.ParameterDef) -> Type:
    """The type of a block's or model's parameter: as declared, else that of a constant default, else any."""
    if parameter.type is not None:
        if parameter.type.text not in TYPES:
            message = f"there is no type `{parameter.type.text}`"
            help = did_you_mean(parameter.type.text, TYPES) or f"the types are {', '.join(TYPES)}"
            raise CnnError.of("type", message, parameter.type.span, help=help)
        return Type(parameter.type.text)
    match parameter.default:
        case syntax.Constant(value=bool()):
            return Type("bool")
        case syntax.Constant(value=int()):
            return Type("int")
        case syntax.Constant(value=float()):
            return Type("float")
        case syntax.Constant(value=str()):
            return Type("string")
        case syntax.Dims():
            return Type("dims")
        case _:
            return Type("any")


# Definitions


def input_names(model: syntax.Model) -> list[syntax.Name]:
    """The names of a model's inputs: `input` where none is declared, or one without a name."""
    declared = [_input_name(statement) for statement in model.body if isinstance(statement, syntax.Input)]
    return declared or [syntax.Name("input", (model.name or model).span)]


def _input_name(statement: syntax.Input) -> syntax.Name:
    return statement.name or syntax.Name("input", statement.span)


def definitions(body: Sequence[syntax.Statement]) -> Iterator[syntax.Name]:
    """The names that a body's statements define: labels, those of inputs, and names of values."""
    return (name for _, name in _definitions(body))


def labels(body: Sequence[syntax.Statement]) -> frozenset[str]:
    """The names of results that a body's statements define: labels and those of inputs."""
    return frozenset(
        name.text for statement, name in _definitions(body) if not isinstance(statement, syntax.Assignment)
    )


def _definitions(body: Sequence[syntax.Statement]) -> Iterator[tuple[syntax.Statement, syntax.Name]]:
    """Every name with the statement that defines it, those inside `if` and of branches included."""
    for statement in body:
        match statement:
            case syntax.Assignment(name=name):
                yield statement, name
            case syntax.Input():
                yield statement, _input_name(statement)
            case syntax.Flow(label=label, value=value):
                if label is not None:
                    yield statement, label
                for name in branch_labels(value):
                    yield statement, name
            case syntax.If(then=then, otherwise=otherwise):
                yield from _definitions((*then, *otherwise))
            case _:
                pass


def branch_labels(expression: syntax.Expression) -> Iterator[syntax.Name]:
    """The labels of the branches in a layer expression; a repeat within it has scopes of its own."""
    match expression:
        case syntax.Pipeline(items=items):
            for item in items:
                yield from branch_labels(item)
        case syntax.Branches(branches=branches):
            for branch in branches:
                if branch.label is not None:
                    yield branch.label
                yield from branch_labels(branch.value)
        case syntax.Call(function=function, arguments=arguments) if function.text in MERGES:
            for argument in arguments:
                yield from branch_labels(argument.value)
        case syntax.Conditional(then=then, otherwise=otherwise):
            yield from branch_labels(then)
            if otherwise is not None:
                yield from branch_labels(otherwise)
        case _:
            pass


# Errors


def unknown_name(name: syntax.Name, known: Iterable[str]) -> CnnError:
    """The error for a name that nothing defines, with the nearest of the language's own and those known beside."""
    own = {*OPS, IDENTITY, "true", "false", *arithmetic.FUNCTIONS, *known}
    help = did_you_mean(_ELSEWHERE.get(name.text.lower(), name.text), own)
    return CnnError.of("name", f"nothing is named `{name.text}`", name.span, help=help)


_ELSEWHERE = {
    "linear": "dense",
    "fc": "dense",
    "fully_connected": "dense",
    "batchnorm2d": "bn",
    "globalaveragepooling2d": "globalpool",
    "adaptiveavgpool2d": "globalpool",
}
"""Layers as other libraries name them, where the spelling is too far from the language's."""


def no_attribute(name: syntax.Name, known: Iterable[str] = ATTRIBUTES) -> CnnError:
    """The error for an attribute that a tensor does not have."""
    help = did_you_mean(name.text, known) or f"it has {', '.join(known)}"
    return CnnError.of("name", f"a tensor has no `{name.text}`", name.span, help=help)
