"""A network that a spec describes: its graph, its recipe, and the few verbs that a Python user needs.

    net = cnnc.load("mnist_cnn")
    params = net.init(seed=0)
    probabilities = net.apply(params, pictures)
    logits, statistics = net.apply(params, pictures, train=True, key=key, logits=True)
    params = net.merge(params, statistics)

jax is imported by the verbs that compute, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any, Literal

from cnnc import backends
from cnnc.frozen import dataclass
from cnnc.ir import Graph
from cnnc.ops import Weight
from cnnc.overrides import Overrides
from cnnc.recipe import Recipe

Weights = Mapping[str, Mapping[str, Any]]
"""Arrays by node and by short name: `weights["resnet.2.0.conv1"]["kernel"]`."""


@dataclass(frozen=True)
class Net:
    """A checked network.

    `text` is the spec's source text, `overrides` what was asked for beside it (variant, width, `--set` values, ...), so
    that the two together make the same network again.
    """

    graph: Graph
    recipe: Recipe = field(default_factory=Recipe)
    text: str = ""
    overrides: Overrides = field(default_factory=Overrides)

    @property
    def name(self) -> str:
        return self.graph.name

    def summary(self, *, unfold: bool = False) -> str:
        """A table of the layers, and totals; turns of a repeat that are alike are one line, unless `unfold`."""
        from cnnc.rendering import layer_table  # what checks a spec does without it

        return layer_table.render(self.graph, unfold)

    def init(self, seed: int = 0) -> dict[str, dict[str, Any]]:
        """First weights, float32, as the papers draw them: the same on every machine for the same seed."""
        weights: dict[str, dict[str, Any]] = backends.load("jax").init.initialize(self.graph, seed)
        return weights

    def apply(
        self,
        weights: Weights,
        x: Any,
        *,
        train: bool = False,
        key: Any = None,
        precision: Literal["f32", "bf16"] = "f32",
        logits: bool = False,
    ) -> Any:
        """The outputs of the network for a batch: a pure function, for use under `jax.jit`, `grad` and `vmap`.

        Called on arrays it compiles itself; inside a transformation of yours it is plain operations. Compile a training
        step of your own with `cnnc.backends.jax.xla.compile.jit`: on a CPU that is `jax.jit`, two to three times
        faster.

        Args:
            weights: as `init` makes them.
            x: an array `(batch, height, width, channels)`, with as many axes as the input has; for several inputs a
                mapping by their names, or a tuple in the spec's order.
            train: batch norm uses the batch's statistics, dropout and drop_path drop.
            key: a `jax.random.key`; a network that drops needs one when `train`.
            precision: what to compute in. Weights and outputs are float32 either way.
            logits: an output that ends in softmax or sigmoid returns what enters it.

        Returns:
            An array `(batch, ...)`, or several by the outputs' names; with `train` a pair of that and batch norm's
            new statistics, for `merge`.

        Raises:
            CnnError: inputs or weights that do not fit.
        """
        bind = backends.load("jax").bind
        inputs = bind.bind_inputs(self.graph, x)
        bind.check_weights(self.graph, weights)
        outputs, statistics = self._forward(weights, inputs, train=train, key=key, precision=precision, logits=logits)
        result = outputs if len(self.graph.outputs) > 1 else next(iter(outputs.values()))
        return (result, statistics) if train else result

    def merge(self, params: Weights, statistics: Weights) -> dict[str, dict[str, Any]]:
        """The parameters with batch norm's new statistics in place of the old."""
        return {node: {**arrays, **statistics.get(node, {})} for node, arrays in params.items()}

    def trainable_mask(self, params: Weights) -> dict[str, dict[str, bool]]:
        """Which arrays training changes, all but running statistics: a mask for `optax.masked`."""
        return self._mask(params, lambda weight: weight.trainable)

    def decay_mask(self, params: Weights) -> dict[str, dict[str, bool]]:
        """Which arrays weight decay shrinks, all but norms and biases: a mask for `optax.add_decayed_weights`."""
        return self._mask(params, lambda weight: weight.trainable and weight.decay)

    def _mask(self, params: Weights, holds: Callable[[Weight], bool]) -> dict[str, dict[str, bool]]:
        declared = {node: self.graph.weights(self.graph[node]) for node in params}
        return {node: {short: holds(declared[node][short]) for short in arrays} for node, arrays in params.items()}

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        forward: Callable[..., Any] = backends.load("jax").apply.forward(self.graph)
        return forward
