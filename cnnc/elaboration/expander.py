"""Blocks, stages, branches and scaling written out: a model's syntax tree to a graph.

Expansion and shapes go hand in hand, since a block may ask what came in (`in.channels`). An error is reported, what it
left without meaning is `POISON`, and nothing that depends on poison is reported again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Label, Span
from cnnc.elaboration import binding, block_results, timm_blocks
from cnnc.elaboration.arguments import Given, bind_block, of_operator
from cnnc.elaboration.arithmetic import show_value, type_name
from cnnc.elaboration.expressions import evaluate, truth, unknown
from cnnc.elaboration.graph_builder import Builder, LimitReached
from cnnc.elaboration.limits import Meter
from cnnc.elaboration.location import DEEPEST_CALLS, Place, Use, kind_of, located, too_deep
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
from cnnc.elaboration.namespace import BlockIn
from cnnc.elaboration.repeats import turns_of
from cnnc.elaboration.scaling import Scale
from cnnc.elaboration.values import POISON, Layer, Poison, Poisoned, Scope, Shared, Tensor
from cnnc.ir import Repeat
from cnnc.language import syntax
from cnnc.ops import OPS, Op, OpError, format_shape
from cnnc.ops.signature import Parameter

Flowing = Tensor | Poison | None
"""What a pipeline carries; None where several inputs leave open which one it is."""


class Expander:
    """Expands one model. Collects diagnostics; `LimitReached` and nothing else ends it early."""

    def __init__(self, scale: Scale) -> None:
        self.builder = Builder()
        self.diagnostics: dict[tuple[object, ...], Diagnostic] = {}
        self._scale = scale
        self._meter = Meter()
        self._calls: list[str] = []
        self._blocks: dict[int, tuple[tuple[Parameter, ...], frozenset[str]]] = {}

    # Errors

    def report(self, error: CnnError, place: Place) -> None:
        """Keep an error's diagnostics, each fault once, with the chain of calls that led to it."""
        for diagnostic in error.diagnostics:
            shown = located(diagnostic, place)
            span = shown.primary.span if shown.primary else None
            key = (shown.code, span.source.name, span.start) if span else (shown.code, shown.message)
            self.diagnostics.setdefault(key, shown)

    # Statements

    def body(self, statements: Sequence[syntax.Statement], scope: Scope, place: Place, x: Flowing) -> Flowing:
        """What flows out of the statements when `x` flows in."""
        with self._meter:
            for statement in statements:
                if len(self.diagnostics) >= MOST_REPORTED:
                    return POISON
                try:
                    self._meter.step(statement.span, self.builder.count)
                    x = self._statement(statement, scope, place, x)
                except CnnError as error:
                    self.report(error, place)
                    x = self._spoil(statement, scope)
                except Poisoned:
                    x = self._spoil(statement, scope)
                except LimitReached as reached:
                    reached.span = statement.span
                    raise
        return x

    def _spoil(self, statement: syntax.Statement, scope: Scope) -> Poison:
        if isinstance(statement, syntax.Assignment):
            scope.values[statement.name.text] = POISON
        if isinstance(statement, syntax.Flow) and statement.label is not None:
            scope.values[statement.label.text] = POISON
        return POISON

    def _statement(self, statement: syntax.Statement, scope: Scope, place: Place, x: Flowing) -> Flowing:
        match statement:
            case syntax.Assignment(name=name, value=value):
                scope.bind(name.text, evaluate(value, scope))
            case syntax.If(test=test, then=then, otherwise=otherwise):
                return self.body(then if truth(test, scope) else otherwise, scope, place, x)
            case syntax.Flow(label=label, value=value):
                path = None if label is None else place.child(label.text)
                x = self.flow(value, x, scope, Use(place, path), may_start=True)
                if label is not None:
                    x = self._labelled(label, x, value.span, scope)
            case syntax.Input() | syntax.Output():
                pass
        return x

    # Layers

    def flow(self, layer: syntax.Expression, x: Flowing, scope: Scope, use: Use, *, may_start: bool = False) -> Flowing:
        """What flows out of a layer expression when `x` flows in; with `may_start` it may begin at a named result."""
        self._meter.step(layer.span, self.builder.count)
        with self._meter:
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
                    given = tuple(Given(a, scope) for a in arguments)
                    return self._apply(function, given, scope, layer.span, x, use)
                case syntax.Incoming():
                    raise CnnError.of("type", "`in` is a result; only a line or a branch may start with it", layer.span)
                case _:
                    message = f"`{' '.join(layer.span.text.split())[:60]}` is not a layer"
                    raise CnnError.of("type", message, layer.span)

    def _start(self, layer: syntax.Expression, x: Flowing, scope: Scope, use: Use) -> Flowing:
        """The named result, or merge of results, that a pipeline starts from; None when it starts with a layer."""
        match layer:
            case syntax.Name(text=text) if isinstance(scope.values.get(text), Tensor | Poison):
                found: Tensor | Poison = scope.values[text]
                return found
            case syntax.Incoming() | syntax.Attribute():
                return block_results.start(layer, scope)
            case syntax.Call(function=function, arguments=arguments) if function.text in MERGES and not isinstance(
                scope.values.get(function.text), Layer
            ):
                branches = tuple(syntax.Branch(None, a.value, a.span) for a in arguments)
                return self._branches(syntax.Branches(function, branches, layer.span), x, scope, use)
            case _:
                return None

    def _pipeline(self, layer: syntax.Pipeline, x: Flowing, scope: Scope, use: Use, may_start: bool) -> Flowing:
        first, *items = layer.items
        place = use.group(layer)
        started = self._start(first, x, scope, Use(place)) if may_start else None
        if started is None:
            items = [first, *items]
        else:
            x = started
            if len(items) == 1 and not isinstance(first, syntax.Call):
                return self.flow(items[0], x, scope, use)  # `last: stem | relu` is a single layer, named `last`
        for item in items:
            try:
                x = self.flow(item, x, scope, Use(place))
            except CnnError as error:
                self.report(error, place)
                x = POISON
            except Poisoned:
                x = POISON
        return x

    def _apply(
        self, name: syntax.Name, given: tuple[Given, ...], scope: Scope, span: Span, x: Flowing, use: Use
    ) -> Flowing:
        if name.text in scope.values and (
            isinstance(scope.values[name.text], Layer | Tensor | Poison)
            or not is_operator_or_block(name.text, scope.namespace)
        ):
            return self._apply_value(name, given, scope, span, x, use)
        if name.text in OPS:
            return self._operator(OPS[name.text], given, scope, span, x, use)
        block = scope.namespace.find(name.text)
        if block is not None:
            return self._block(block, given, scope, span, x, use)
        if name.text == IDENTITY:
            binding.match(IDENTITY, FORMS[IDENTITY], [g.argument for g in given], span)
            return x
        if name.text == TIMM:
            return self._timm(given, scope, span, x, use)
        if name.text == SHARED:
            message = "`shared` is one layer for several places, but this is a single one"
            raise CnnError.of("type", message, span, help="name it, and use the name: layers = shared(...)")
        raise unknown(name, scope, (SHARED, TIMM))

    def _apply_value(
        self, name: syntax.Name, given: tuple[Given, ...], scope: Scope, span: Span, x: Flowing, use: Use
    ) -> Flowing:
        """A layer that a name stands for; arguments are added to those it was written with."""
        value = scope.values[name.text]
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
            use = replace(use, path=use.place.fresh(name.text))
        if value.shared is not None:
            if given:
                raise CnnError.of("type", f"`{name.text}` is shared and takes no arguments where it is used", span)
            return self._use_shared(value.shared, value.expression, x, home, use, span)
        if not given:
            return self.flow(value.expression, x, home, use)
        match value.expression:
            case syntax.Name() as function:
                own: tuple[syntax.Argument, ...] = ()
            case syntax.Call(function=function, arguments=own):
                pass
            case _:
                raise CnnError.of("type", f"`{name.text}` is a pipeline and takes no arguments", span)
        named = {g.argument.name.text for g in given if g.argument.name is not None}
        kept = [Given(a, home) for a in own if a.name is None or a.name.text not in named]
        by_position = [g for g in kept if g.argument.name is None]
        by_name = [g for g in kept if g.argument.name is not None]
        with self._meter:
            return self._apply(function, (*by_position, *given, *by_name), home, span, x, use)

    def _use_shared(
        self, shared: Shared, layer: syntax.Expression, x: Flowing, scope: Scope, use: Use, span: Span
    ) -> Flowing:
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

    def _repeat(self, layer: syntax.Repeat, x: Flowing, scope: Scope, use: Use) -> Flowing:
        path = use.path or use.place.fresh(kind_of(layer.body))
        results: list[Tensor] = []
        for turn in turns_of(layer, scope, self._scale.depth, use.place.turns):
            group = f"{path}.{turn.stage}" if turn.by_stage else path
            inside = Use(
                use.place.turn(Repeat(group, turn.repeat, turn.repeats)), f"{group}.{turn.repeat}", turn, layer.span
            )
            after = self.flow(layer.body, x, scope.within(turn), inside)
            if isinstance(after, Poison):
                return POISON
            if after is not None and after != x:
                results.append(after)
            x = after
        return block_results.of_turns(results) if results else x

    def _timm(self, given: tuple[Given, ...], site: Scope, span: Span, x: Flowing, use: Use) -> Flowing:
        """Stages written as timm's block strings."""
        path = use.path or use.place.fresh(TIMM)
        stages, scope = timm_blocks.stages(given, span)
        x = self._tensor(x, span, site)
        for stage, repeat in enumerate(stages):
            x = self._repeat(repeat, x, scope, Use(use.place, f"{path}.{stage}"))
        return x

    # Branches

    def _branches(self, layer: syntax.Branches, x: Flowing, scope: Scope, use: Use) -> Flowing:
        place = use.group(layer)
        results: list[tuple[Flowing, Span]] = []
        for branch in layer.branches:
            value = branch.value
            if isinstance(value, syntax.Conditional) and value.otherwise is None:
                if not truth(value.test, scope):
                    continue
                value = value.then
            listed = block_results.of_all_turns(branch, scope)
            found = [self._branch(branch, value, x, scope, place)] if listed is None else listed
            results.extend((result, branch.value.span) for result in found)
        if any(result is POISON for result, _ in results):
            return POISON
        keyword = layer.keyword
        if not results:
            help = "a branch is a layer, or `identity`, on a line of its own"
            raise CnnError.of("arity", f"`{keyword.text}` has no branches to join", keyword.span, help=help)
        tensors = [self._tensor(result, span, scope) for result, span in results]
        if len(tensors) == 1 and keyword.text in BRACED:
            return tensors[0]
        name = use.path or place.fresh(keyword.text)
        try:
            return self.builder.add(name, OPS[keyword.text](), tensors, place.repeats, place.origin(keyword.span))
        except OpError as error:
            secondary = [Label(span, format_shape(t.shape)) for t, (_, span) in zip(tensors, results, strict=True)]
            raise CnnError.of(error.code, error.message, keyword.span, secondary=secondary, help=error.help) from None

    def _branch(
        self, branch: syntax.Branch, value: syntax.Expression, x: Flowing, scope: Scope, place: Place
    ) -> Flowing:
        path = None if branch.label is None else place.child(branch.label.text)
        try:
            result = self.flow(value, x, scope, Use(place, path), may_start=True)
            return result if branch.label is None else self._labelled(branch.label, result, value.span, scope)
        except CnnError as error:
            self.report(error, place)
        except Poisoned:
            pass
        return POISON if branch.label is None else self._labelled(branch.label, POISON, value.span, scope)

    def _labelled(self, label: syntax.Name, result: Flowing, span: Span, scope: Scope) -> Tensor | Poison:
        """A result, which has the label from now on."""
        if not isinstance(result, Poison):
            result = self._tensor(result, span, scope)
        scope.label(label.text, result)
        return result

    def _tensor(self, x: Flowing, span: Span, scope: Scope) -> Tensor:
        """What flows, which must be there by now."""
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
        self, block: BlockIn, given: tuple[Given, ...], site: Scope, span: Span, x: Flowing, use: Use
    ) -> Flowing:
        definition = block.definition
        name = definition.name.text
        incoming = self._tensor(x, span, site)
        if len(self._calls) >= DEEPEST_CALLS:
            raise too_deep([*self._calls, name], span)
        path = use.path or use.place.fresh(name)
        own = Scope(block.namespace, {}, incoming, scales=False, turn=site.turn)
        parameters, taken = self._known_block(definition)
        bind_block(name, parameters, given, site, span, own, self._scale, turn=use.turn)
        own.turn = None
        place = use.place.block(path, use.span or span, taken)
        self._calls.append(name)
        result = self.body(definition.body, own, place, incoming)
        self._calls.pop()
        return block_results.of_block(result, incoming, own.values, taken) if isinstance(result, Tensor) else result

    def _known_block(self, block: syntax.Block) -> tuple[tuple[Parameter, ...], frozenset[str]]:
        """A block's parameters and labels, worked out at its first call."""
        if id(block) not in self._blocks:
            self._blocks[id(block)] = parameters_of(block), labels(block.body)
        return self._blocks[id(block)]

    # Operators

    def _operator(
        self, kind: type[Op], given: tuple[Given, ...], site: Scope, span: Span, x: Flowing, use: Use
    ) -> Flowing:
        name = kind.names[0]
        if name in MERGES:
            message = f"`{name}` joins branches, or results at the start of a line or branch"
            braces = f"{name} {{ ... }} with a branch a line, or " if name in BRACED else ""
            raise CnnError.of("arity", message, span, help=f"{braces}{name}(a, b)")
        attributes, spans = of_operator(kind, given, site, span, self._scale, turn=use.turn)
        op = kind(**attributes)
        tensor: Tensor | None = None
        try:
            if isinstance(x, Poison):
                op.validate()
            tensor = self._tensor(x, span, site)
            name = use.path or use.place.fresh(kind.names[0])
            return self.builder.add(name, op, (tensor,), use.place.repeats, use.place.origin(span))
        except OpError as error:
            at = spans.get(error.attribute or "", span)
            said = f"from {format_shape(tensor.shape)}" if tensor is not None and error.code == "shape" else ""
            raise CnnError.of(error.code, error.message, at, label=said, help=error.help) from None
