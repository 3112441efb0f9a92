"""Blocks, stages, branches and scaling written out: a model's syntax tree to a graph.

Expansion and shapes go hand in hand, since a block may ask what came in (`in.channels`). An error is reported, what it
left without meaning is `POISON`, and nothing that depends on poison is reported again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Label, Span
from cnnc.elaboration import binding, block_results, timm_blocks
from cnnc.elaboration.arguments import ScopedArgument, bind_block, bind_operator
from cnnc.elaboration.arithmetic import show_value, type_name
from cnnc.elaboration.expressions import evaluate, truth, unknown
from cnnc.elaboration.graph_builder import GraphBuilder, LimitReached
from cnnc.elaboration.limits import ExpansionLimits
from cnnc.elaboration.location import DEEPEST_CALLS, Location, Use, kind_of, locate, too_deep
from cnnc.elaboration.names import (
    BRACED,
    FORMS,
    IDENTITY,
    MERGES,
    SHARED,
    TIMM,
    branch_labels,
    is_operator_or_block,
    labels,
    parameters_of,
)
from cnnc.elaboration.namespace import ScopedBlock
from cnnc.elaboration.repeats import turns_of
from cnnc.elaboration.scaling import Scale
from cnnc.elaboration.values import POISON, Layer, Poison, Poisoned, Scope, Shared, Tensor
from cnnc.ir import Repeat
from cnnc.language import syntax
from cnnc.ops import OPS, Op, OpError, format_shape
from cnnc.ops.signature import Parameter

Result = Tensor | Poison | None
"""The value that a pipeline carries; None where several inputs leave open which one it is."""


class Expander:
    """Expands one model. Collects diagnostics; `LimitReached` and nothing else ends it early."""

    def __init__(self, scale: Scale) -> None:
        self.builder = GraphBuilder()
        self.diagnostics: dict[tuple[object, ...], Diagnostic] = {}
        self._scale = scale
        self._limits = ExpansionLimits()
        self._calls: list[str] = []
        self._blocks: dict[int, tuple[tuple[Parameter, ...], frozenset[str]]] = {}

    # Errors

    def report(self, error: CnnError, location: Location) -> None:
        """Keep an error's diagnostics, each fault once, with the chain of calls that led to it."""
        for diagnostic in error.diagnostics:
            shown = locate(diagnostic, location)
            span = shown.primary.span if shown.primary else None
            key = (shown.code, span.source.name, span.start) if span else (shown.code, shown.message)
            self.diagnostics.setdefault(key, shown)

    # Statements

    def body(self, statements: Sequence[syntax.Statement], scope: Scope, location: Location, x: Result) -> Result:
        """The result of the statements for the input `x`."""
        with self._limits:
            for statement in statements:
                if len(self.diagnostics) >= MOST_REPORTED:
                    return POISON
                try:
                    self._limits.step(statement.span, self.builder.count)
                    x = self._statement(statement, scope, location, x)
                except CnnError as error:
                    self.report(error, location)
                    x = self._spoil(statement, scope)
                except Poisoned:
                    x = self._spoil(statement, scope)
                except LimitReached as reached:
                    reached.span = statement.span
                    raise
        return x

    def _spoil(self, statement: syntax.Statement, scope: Scope) -> Poison:
        if isinstance(statement, syntax.Assignment):
            scope.define(statement.name.text, POISON, statement.value.span.end)
        if isinstance(statement, syntax.Flow) and statement.label is not None:
            scope.define(statement.label.text, POISON, statement.value.span.end)
        return POISON

    def _statement(self, statement: syntax.Statement, scope: Scope, location: Location, x: Result) -> Result:
        match statement:
            case syntax.Assignment(name=name, value=value):
                scope.define(name.text, evaluate(value, scope), value.span.end)
            case syntax.If(test=test, then=then, otherwise=otherwise):
                return self.body(then if truth(test, scope) else otherwise, scope, location, x)
            case syntax.Flow(label=label, value=value):
                path = None if label is None else location.child(label.text)
                x = self.flow(value, x, scope, Use(location, path), may_start=True)
                if label is not None:
                    x = self._give_label(label, x, value.span, scope)
            case syntax.Input() | syntax.Output():
                pass
        return x

    # Layers

    def flow(self, layer: syntax.Expression, x: Result, scope: Scope, use: Use, *, may_start: bool = False) -> Result:
        """The result of a layer expression for the input `x`; with `may_start` it may begin at a named result."""
        self._limits.step(layer.span, self.builder.count)
        with self._limits:
            if may_start:
                started = self._start(layer, x, scope, use)
                if started is not None:
                    return started
            match layer:
                case syntax.Pipeline():
                    return self._pipeline(layer, x, scope, use, may_start)
                case syntax.Repeat():
                    return self._repeat(layer, x, scope, use)
                case syntax.Branches():
                    return self._branches(layer, x, scope, use)
                case syntax.Conditional(then=then, test=test, otherwise=otherwise):
                    if truth(test, scope):
                        return self.flow(then, x, scope, use, may_start=may_start)
                    return x if otherwise is None else self.flow(otherwise, x, scope, use, may_start=may_start)
                case syntax.Name():
                    return self._apply(layer, (), scope, layer.span, x, use)
                case syntax.Call(function=function, arguments=arguments):
                    scoped = tuple(ScopedArgument(a.name, a.value, a.span, scope) for a in arguments)
                    return self._apply(function, scoped, scope, layer.span, x, use)
                case syntax.Incoming():
                    raise CnnError.of("type", "`in` is a result; only a line or a branch may start with it", layer.span)
                case _:
                    message = f"`{' '.join(layer.span.text.split())[:60]}` is not a layer"
                    raise CnnError.of("type", message, layer.span)

    def _start(self, layer: syntax.Expression, x: Result, scope: Scope, use: Use) -> Result:
        """The named result, or merge of results, that a pipeline starts from; None when it starts with a layer."""
        match layer:
            case syntax.Name() if isinstance(result := scope.value(layer), Tensor | Poison):
                return result
            case syntax.Incoming() | syntax.Attribute():
                return block_results.start(layer, scope)
            case syntax.Call(function=function, arguments=arguments) if function.text in MERGES and not isinstance(
                scope.value(function), Layer
            ):
                branches = tuple(syntax.Branch(None, a.value, a.span) for a in arguments)
                return self._branches(syntax.Branches(function, branches, layer.span), x, scope, use)
            case _:
                return None

    def _pipeline(self, layer: syntax.Pipeline, x: Result, scope: Scope, use: Use, may_start: bool) -> Result:
        first, *items = layer.items
        location = use.group(layer)
        started = self._start(first, x, scope, Use(location)) if may_start else None
        if started is None:
            items = [first, *items]
        else:
            x = started
            if len(items) == 1 and not isinstance(first, syntax.Call):
                return self.flow(items[0], x, scope, use)  # `last: stem | relu` is a single layer, named `last`
        for item in items:
            try:
                x = self.flow(item, x, scope, Use(location))
            except CnnError as error:
                self.report(error, location)
                x = POISON
            except Poisoned:
                x = POISON
        return x

    def _apply(
        self, name: syntax.Name, arguments: tuple[ScopedArgument, ...], scope: Scope, span: Span, x: Result, use: Use
    ) -> Result:
        value = scope.value(name)
        is_hiding = isinstance(value, Layer | Tensor | Poison)
        if is_hiding or (value is not None and not is_operator_or_block(name.text, scope.namespace)):
            return self._apply_value(name, arguments, scope, span, x, use)
        if name.text in OPS:
            return self._operator(OPS[name.text], arguments, scope, span, x, use)
        block = scope.namespace.find(name.text)
        if block is not None:
            return self._block(block, arguments, scope, span, x, use)
        if name.text == IDENTITY:
            binding.match(IDENTITY, FORMS[IDENTITY], arguments, span)
            return x
        if name.text == TIMM:
            return self._timm(arguments, scope, span, x, use)
        if name.text == SHARED:
            message = "`shared` is one layer for several places, but this is a single one"
            raise CnnError.of("type", message, span, help="name it, and use the name: layers = shared(...)")
        raise unknown(name, scope, (SHARED, TIMM))

    def _apply_value(
        self, name: syntax.Name, arguments: tuple[ScopedArgument, ...], scope: Scope, span: Span, x: Result, use: Use
    ) -> Result:
        """A layer that a name stands for; arguments are added to those it was written with."""
        value = scope.value(name)
        if value is POISON:
            raise Poisoned
        if isinstance(value, Tensor):
            message = f"`{name.text}` is a result; only a line or a branch may start with it"
            raise CnnError.of("type", message, name.span, help="join results with add(...), concat(...) or mul(...)")
        if not isinstance(value, Layer):
            message = f"`{name.text}` is {type_name(value)}, `{show_value(value)}`, not a layer"
            raise CnnError.of("type", message, name.span)
        # A list written in a repeat has a value for each of its turns, whatever repeats the layer is used in.
        home = value.scope.within(value.scope.turn or scope.turn)
        if use.path is None and any(branch_labels(value.expression)):
            use = replace(use, path=use.location.fresh(name.text))
        if value.shared is not None:
            if arguments:
                raise CnnError.of("type", f"`{name.text}` is shared and takes no arguments where it is used", span)
            return self._use_shared(value.shared, value.expression, x, home, use, span)
        if not arguments:
            return self.flow(value.expression, x, home, use)
        match value.expression:
            case syntax.Name() as function:
                own: tuple[syntax.Argument, ...] = ()
            case syntax.Call(function=function, arguments=own):
                pass
            case _:
                raise CnnError.of("type", f"`{name.text}` is a pipeline and takes no arguments", span)
        named = {each.name.text for each in arguments if each.name is not None}
        kept = [
            ScopedArgument(a.name, a.value, a.span, home) for a in own if a.name is None or a.name.text not in named
        ]
        by_position = [each for each in kept if each.name is None]
        by_name = [each for each in kept if each.name is not None]
        with self._limits:
            return self._apply(function, (*by_position, *arguments, *by_name), home, span, x, use)

    def _use_shared(
        self, shared: Shared, layer: syntax.Expression, x: Result, scope: Scope, use: Use, span: Span
    ) -> Result:
        """A shared layer in one of its places; at every use after the first its nodes use the first one's weights."""
        if isinstance(x, Poison):
            raise Poisoned
        try:
            with self.builder.use(shared):
                result = self.flow(layer, x, scope, use)
                if isinstance(result, Poison):
                    raise Poisoned
                return result
        except OpError as error:
            raise CnnError.of(error.code, error.message, span, help=error.help) from None

    # Repeats

    def _repeat(self, layer: syntax.Repeat, x: Result, scope: Scope, use: Use) -> Result:
        path = use.path or use.location.fresh(kind_of(layer.body))
        results: list[Tensor] = []
        for turn in turns_of(layer, scope, self._scale.depth, use.location.turns):
            group = f"{path}.{turn.stage}" if turn.by_stage else path
            inside = Use(
                use.location.turn(Repeat(group, turn.repeat, turn.repeats)), f"{group}.{turn.repeat}", turn, layer.span
            )
            after = self.flow(layer.body, x, scope.within(turn), inside)
            if isinstance(after, Poison):
                return POISON
            if after is not None and after != x:
                results.append(after)
            x = after
        return block_results.of_turns(results) if results else x

    def _timm(self, arguments: tuple[ScopedArgument, ...], site: Scope, span: Span, x: Result, use: Use) -> Result:
        """Stages written as timm's block strings."""
        path = use.path or use.location.fresh(TIMM)
        stages, scope = timm_blocks.stages(arguments, span)
        x = self._tensor(x, span, site)
        for stage, repeat in enumerate(stages):
            x = self._repeat(repeat, x, scope, Use(use.location, f"{path}.{stage}"))
        return x

    # Branches

    def _branches(self, layer: syntax.Branches, x: Result, scope: Scope, use: Use) -> Result:
        location = use.group(layer)
        results: list[tuple[Result, Span]] = []
        for branch in layer.branches:
            value = branch.value
            if isinstance(value, syntax.Conditional) and value.otherwise is None:
                if not truth(value.test, scope):
                    continue
                value = value.then
            listed = block_results.of_all_turns(branch, scope)
            own = [self._branch(branch, value, x, scope, location)] if listed is None else listed
            results.extend((result, branch.value.span) for result in own)
        if any(result is POISON for result, _ in results):
            return POISON
        keyword = layer.keyword
        if not results:
            help = "a branch is a layer, or `identity`, on a line of its own"
            raise CnnError.of("arity", f"`{keyword.text}` has no branches to join", keyword.span, help=help)
        tensors = [self._tensor(result, span, scope) for result, span in results]
        if len(tensors) == 1 and keyword.text in BRACED:
            return tensors[0]
        name = use.path or location.fresh(keyword.text)
        try:
            return self.builder.add(name, OPS[keyword.text](), tensors, location.repeats, location.origin(keyword.span))
        except OpError as error:
            secondary = [Label(span, format_shape(t.shape)) for t, (_, span) in zip(tensors, results, strict=True)]
            raise CnnError.of(error.code, error.message, keyword.span, secondary=secondary, help=error.help) from None

    def _branch(
        self, branch: syntax.Branch, value: syntax.Expression, x: Result, scope: Scope, location: Location
    ) -> Result:
        path = None if branch.label is None else location.child(branch.label.text)
        try:
            result = self.flow(value, x, scope, Use(location, path), may_start=True)
            return result if branch.label is None else self._give_label(branch.label, result, value.span, scope)
        except CnnError as error:
            self.report(error, location)
        except Poisoned:
            pass
        return POISON if branch.label is None else self._give_label(branch.label, POISON, value.span, scope)

    def _give_label(self, label: syntax.Name, result: Result, span: Span, scope: Scope) -> Tensor | Poison:
        """A result, which has the label from now on."""
        if not isinstance(result, Poison):
            result = self._tensor(result, span, scope)
        scope.define(label.text, result, span.end)
        return result

    def _tensor(self, x: Result, span: Span, scope: Scope) -> Tensor:
        """The tensor of a result. Raises Poisoned, or CnnError("input") where any of several inputs could be meant."""
        if x is None:
            names = [name for name, value in scope.values.items() if isinstance(value, Tensor)]
            message = (
                f"the model has several inputs: which one does this read, {' or '.join(map('`{}`'.format, names))}?"
            )
            raise CnnError.of(
                "input", message, span, help=f"start the line with it: {names[0]} | ..." if names else None
            )
        if isinstance(x, Poison):
            raise Poisoned
        return x

    # Blocks

    def _block(
        self, block: ScopedBlock, arguments: tuple[ScopedArgument, ...], site: Scope, span: Span, x: Result, use: Use
    ) -> Result:
        definition = block.definition
        name = definition.name.text
        incoming = self._tensor(x, span, site)
        if len(self._calls) >= DEEPEST_CALLS:
            raise too_deep([*self._calls, name], span)
        path = use.path or use.location.fresh(name)
        own = Scope(block.namespace, {}, incoming, scales=False, turn=site.turn)
        parameters, taken = self._known_block(definition)
        bind_block(name, parameters, arguments, site, span, own, self._scale, turn=use.turn)
        own.turn = None
        location = use.location.block(path, use.span or span, taken)
        self._calls.append(name)
        result = self.body(definition.body, own, location, incoming)
        self._calls.pop()
        return block_results.of_block(result, incoming, own.values, taken) if isinstance(result, Tensor) else result

    def _known_block(self, block: syntax.Block) -> tuple[tuple[Parameter, ...], frozenset[str]]:
        """A block's parameters and labels, worked out at its first call."""
        if id(block) not in self._blocks:
            self._blocks[id(block)] = parameters_of(block), labels(block.body)
        return self._blocks[id(block)]

    # Operators

    def _operator(
        self, kind: type[Op], arguments: tuple[ScopedArgument, ...], site: Scope, span: Span, x: Result, use: Use
    ) -> Result:
        name = kind.names[0]
        if name in MERGES:
            message = f"`{name}` joins branches, or results at the start of a line or branch"
            braces = f"{name} {{ ... }} with a branch a line, or " if name in BRACED else ""
            raise CnnError.of("arity", message, span, help=f"{braces}{name}(a, b)")
        attributes, spans = bind_operator(kind, arguments, span, self._scale, turn=use.turn)
        op = kind(**attributes)
        tensor: Tensor | None = None
        try:
            if isinstance(x, Poison):
                op.validate()
            tensor = self._tensor(x, span, site)
            name = use.path or use.location.fresh(kind.names[0])
            return self.builder.add(name, op, (tensor,), use.location.repeats, use.location.origin(span))
        except OpError as error:
            at = spans.get(error.attribute or "", span)
            said = f"from {format_shape(tensor.shape)}" if tensor is not None and error.code == "shape" else ""
            raise CnnError.of(error.code, error.message, at, label=said, help=error.help) from None
