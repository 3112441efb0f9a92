"""One training step of a small network in JAX, Keras and PyTorch: outputs, statistics and gradients agree."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
import pytest

from cnnc import ops
from cnnc.net import Net
from tests.support.networks import sequential

QUICK = {"xla_backend_optimization_level": 0}
X = np.random.default_rng(0).standard_normal((8, 9, 9, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 8)


def network(padding: str | tuple[tuple[int, int], ...]) -> Net:
    return sequential(
        (9, 9, 3),
        ops.Conv((3,), 8, (2,), padding, bias=False),
        ops.BatchNorm(momentum=0.9, epsilon=1e-5),
        ops.Relu(),
        ops.Depthwise((3,), padding=padding),
        ops.MaxPool((3,), (2,), padding),
        ops.Flatten(),
        ops.Dense(5),
        ops.Softmax(),
    )


def step(net: Net, weights: Any) -> tuple[Any, Any, Any]:
    """The logits in training, the new statistics, and the gradient of the mean cross-entropy."""

    def loss(weights: Any) -> Any:
        logits, statistics = net.apply(weights, X, train=True, logits=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean(), (logits, statistics)

    gradient, (logits, statistics) = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)(weights)
    return logits, statistics, gradient


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_training_step_is_kerass() -> None:
    keras: Any = pytest.importorskip("keras", reason="Keras is not installed")
    net = network("same")
    weights = net.init(0)
    model = keras.Sequential(
        [
            keras.layers.Input((9, 9, 3)),
            keras.layers.Conv2D(8, 3, 2, "same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.MaxPool2D(3, 2, "same"),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    for layer, name in zip(model.layers, [node.name for node in net.graph][1:], strict=False):
        layer.set_weights(list(weights.get(name, {}).values()))
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(trainable: Any) -> Any:
        logits, state = model.stateless_call(trainable, fixed, X, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean(), (logits, state)

    trainable = [variable.value for variable in model.trainable_variables]
    gradient_of_loss = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    expected, (logits, (mean, variance)) = gradient_of_loss(trainable)
    ours, statistics, gradient = step(net, weights)
    assert_close(ours, logits)
    assert_close(statistics["bn1"]["mean"], mean)
    assert_close(statistics["bn1"]["variance"], variance)
    for slopes in gradient.values():
        slopes.pop("mean", None)
        slopes.pop("variance", None)
    found = [gradient[name][short] for name, arrays in weights.items() for short in arrays if short in gradient[name]]
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    inferred, _ = jax.jit(model.stateless_call)(trainable, fixed, X)
    assert_close(net.apply(weights, X), jax.nn.softmax(inferred))


def test_a_training_step_is_pytorchs() -> None:
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = network(((1, 1),))
    weights = net.init(0)
    shape = net.graph["maxpool4"].shape

    def tensor(array: Any, *axes: int) -> Any:
        return torch.tensor(np.array(array).transpose(axes)) if axes else torch.tensor(np.array(array))

    conv = torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False)
    norm = torch.nn.BatchNorm2d(8, eps=1e-5)
    depthwise = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
    dense = torch.nn.Linear(int(np.prod(shape)), 5)
    with torch.no_grad():
        conv.weight.copy_(tensor(weights["conv0"]["kernel"], 3, 2, 0, 1))
        depthwise.weight.copy_(tensor(weights["depthwise3"]["kernel"], 2, 3, 0, 1))
        depthwise.bias.copy_(tensor(weights["depthwise3"]["bias"]))
        dense.weight.copy_(tensor(weights["dense6"]["kernel"], 1, 0))
        dense.bias.copy_(tensor(weights["dense6"]["bias"]))

    hidden = depthwise(torch.relu(norm(conv(tensor(X, 0, 3, 1, 2)))))
    pooled = torch.nn.functional.max_pool2d(hidden, 3, 2, 1)
    logits = dense(pooled.permute(0, 2, 3, 1).flatten(1))
    torch.nn.functional.cross_entropy(logits, torch.tensor(Y)).backward()

    ours, statistics, gradient = step(net, weights)
    assert_close(ours, logits.detach().numpy())
    assert_close(statistics["bn1"]["mean"], norm.running_mean.numpy())
    assert_close(gradient["conv0"]["kernel"], conv.weight.grad.numpy().transpose(2, 3, 1, 0))
    assert_close(gradient["bn1"]["gamma"], norm.weight.grad.numpy())
    assert_close(gradient["bn1"]["beta"], norm.bias.grad.numpy())
    assert_close(gradient["depthwise3"]["kernel"], depthwise.weight.grad.numpy().transpose(2, 3, 0, 1))
    assert_close(gradient["depthwise3"]["bias"], depthwise.bias.grad.numpy())
    assert_close(gradient["dense6"]["kernel"], dense.weight.grad.numpy().T)
