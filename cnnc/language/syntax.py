"""The syntax tree of a .cnn file: frozen values, every one with its span. One class for each rule of the grammar."""

from __future__ import annotations

from cnnc.diagnostics import Source, Span
from cnnc.frozen import dataclass

Number = int | float


@dataclass(frozen=True)
class Name:
    """A name where it is defined or used."""

    text: str
    span: Span


# Definitions


@dataclass(frozen=True)
class Import:
    """`import "my_blocks.cnn"`: brings the blocks of another file."""

    path: str
    span: Span


@dataclass(frozen=True)
class ParameterDef:
    """`width: channels = 64`: a parameter of a model or block; its type may follow from the default."""

    name: Name
    type: Name | None
    default: Expression | None
    span: Span


@dataclass(frozen=True)
class Model:
    """`model name(parameters) { statements }`. A file of bare statements is a model, too; its `name` is then None."""

    name: Name | None
    parameters: tuple[ParameterDef, ...]
    body: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True)
class Block:
    """`block name(parameters) { statements }`: a function from tensor to tensor."""

    name: Name
    parameters: tuple[ParameterDef, ...]
    body: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True)
class Scale:
    """`scale phi { width = 1.1 ^ phi }`: width, depth and resolution from one coefficient."""

    coefficient: Name
    rules: tuple[Assignment, ...]
    span: Span


@dataclass(frozen=True)
class Variant:
    """`b1: width=1.0, input=240x240x3`: a named setting of the scales and the model's parameters."""

    name: Name
    settings: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True)
class Arm:
    """One value of an entry of the train section; `label` names the output that it is for."""

    label: Name | None
    value: Expression
    span: Span


@dataclass(frozen=True)
class Entry:
    """`optimizer sgd(momentum=0.9)`: a line of the train section."""

    key: Name
    arms: tuple[Arm, ...]
    span: Span


@dataclass(frozen=True)
class Train:
    """`train { entries }`: how to train the model."""

    entries: tuple[Entry, ...]
    span: Span


@dataclass(frozen=True)
class Budget:
    """`params < 5M`. `digits` is the figure as written, by which equality is judged."""

    quantity: Name
    relation: str
    digits: str
    span: Span


@dataclass(frozen=True)
class Expect:
    """`expect b1: params = 7794184`: what a spec asserts of itself, of a variant when one is named."""

    variant: Name | None
    budgets: tuple[Budget, ...]
    span: Span


@dataclass(frozen=True)
class File:
    """All that a file defines. `models` holds the model of the bare statements, if there are any, first."""

    source: Source
    imports: tuple[Import, ...] = ()
    models: tuple[Model, ...] = ()
    blocks: tuple[Block, ...] = ()
    scales: tuple[Scale, ...] = ()
    variants: tuple[Variant, ...] = ()
    trains: tuple[Train, ...] = ()
    expects: tuple[Expect, ...] = ()


# Statements


@dataclass(frozen=True)
class Input:
    """`input board 19x19x17`, `input words 400 int`."""

    name: Name | None
    dims: tuple[int, ...]
    dtype: Name | None
    span: Span


@dataclass(frozen=True)
class Output:
    """`output policy, value`."""

    names: tuple[Name, ...]
    span: Span


@dataclass(frozen=True)
class Assignment:
    """`middle = in.channels * expand`: a named number or layer, not a tensor."""

    name: Name
    value: Expression
    span: Span


@dataclass(frozen=True)
class Flow:
    """`stem: conv(7x7, 64) | bn`: a pipeline, whose result may have a label."""

    label: Name | None
    value: Expression
    span: Span


@dataclass(frozen=True)
class If:
    """`if stride != 1 { conv(1x1, 64) } else { ... }`."""

    test: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]
    span: Span


Statement = Input | Output | Assignment | Flow | If


# Expressions, loosest binding first


@dataclass(frozen=True)
class Conditional:
    """`a if test else b`; as a layer or a branch it may go without the else."""

    then: Expression
    test: Expression
    otherwise: Expression | None
    span: Span


@dataclass(frozen=True)
class Pipeline:
    """`conv(3x3, 64) | bn | relu`."""

    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True)
class Repeat:
    """`40 x residual(256)`, `[3, 4, 6, 3] x bottleneck`."""

    count: Expression
    body: Expression
    span: Span


@dataclass(frozen=True)
class Binary:
    """Two operands of `or and == != < <= > >= + - * / // % ^`."""

    operator: str
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True)
class Unary:
    """`-` or `not`."""

    operator: str
    operand: Expression
    span: Span


@dataclass(frozen=True)
class Attribute:
    """`in.channels`, `stem.height`."""

    value: Expression
    name: Name
    span: Span


@dataclass(frozen=True)
class Incoming:
    """`in`: what came into the block or the model."""

    span: Span


@dataclass(frozen=True)
class Constant:
    """A number, a truth value or a string."""

    value: Number | bool | str
    span: Span


@dataclass(frozen=True)
class Dims:
    """`3x3`, `224x224x3`."""

    sizes: tuple[int, ...]
    span: Span


@dataclass(frozen=True)
class ListOf:
    """`[64, 128, 256, 512]`."""

    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True)
class Argument:
    """`stride=2`, or positional `2`."""

    name: Name | None
    value: Expression
    span: Span


@dataclass(frozen=True)
class Call:
    """`conv(3x3, 64)`; also `concat(a, b)`."""

    function: Name
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True)
class Branch:
    """A line of `add { ... }`."""

    label: Name | None
    value: Expression
    span: Span


@dataclass(frozen=True)
class Branches:
    """`add { ... }`, `concat { ... }`, `mul { ... }`: `keyword` has the span of the word alone."""

    keyword: Name
    branches: tuple[Branch, ...]
    span: Span


Expression = (
    Conditional
    | Pipeline
    | Repeat
    | Binary
    | Unary
    | Attribute
    | Incoming
    | Constant
    | Dims
    | ListOf
    | Call
    | Branches
    | Name
)
