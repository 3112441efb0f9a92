"""A training step of `cnnc` beside what a user would pick instead: whole processes, interleaved, in one run.

    python bench/train.py PEERS [--rounds 3] [--steps 6] [--networks resnet18 ...] [--flax-python PYTHON]

`cnnc-again` is `cnnc` with a compiled program that an earlier start has kept, as `cnnc train` has from the second run
of a network on: what compiling leaves in a process's memory slows the steps after it.

PEERS is the folder with `peer_train.py`, whose networks, batches and optimizer are taken over. Prints a Markdown table:
medians over the rounds of milliseconds a step, of seconds to the first step (compilation included) and of peak memory,
and the ratios of the medians of each peer's step to ours. Before that it holds our losses to one another and to
PyTorch's: the same weights, moved over, and the same pictures must give the same loss, with the layers in their plain
forms and in those chosen by measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from cnnc import ops
from cnnc.ir import Graph
from cnnc.loading import find, load_spec
from cnnc.overrides import Overrides
from cnnc.recipe import Constant, CrossEntropy, Recipe, Sgd

NETWORKS = {
    "cifar_cnn": ("cifar_cnn", Overrides(settings=(("dropout", "0"),)), 64),
    "resnet18": ("resnet", Overrides(variant="cifar"), 32),
    "mobilenet_v2": (
        "mobilenet_v2",
        Overrides(input=((None, (96, 96, 3)),), settings=(("classes", "10"), ("dropout", "0"))),
        32,
    ),
}
PEERS = ("torch", "torch-bf16", "flax")
OURS = ("cnnc", "cnnc-again", "cnnc-plain", "cnnc-bf16")


def prepared(network: str, precision: Literal["f32", "bf16"] = "f32") -> tuple[Graph, Recipe, Any, Any, Any]:
    """The peers' network, recipe, first weights, pictures and labels; pictures that a layer scales come unscaled."""
    spec, overrides, batch = NETWORKS[network]
    net = load_spec(find(spec), overrides)
    recipe = Recipe(optimizer=Sgd(momentum=0.9), schedule=Constant(peak=0.01), batch=batch)
    (source,) = net.graph.inputs
    x = np.random.default_rng(0).normal(size=(batch, *source.shape)).astype("float32")
    for node in net.graph:
        if isinstance(node.op, ops.Normalize):
            x = (x * np.asarray(node.op.std) + np.asarray(node.op.mean)).astype("float32")
    y = np.random.default_rng(1).integers(0, 10, batch).astype("int32")
    return net.graph, replace(recipe, precision=precision), net.init(0), {source.name: x}, (y,)


def step_of_ours(contender: str, network: str, steps: int) -> dict[str, Any]:
    """What `peer_train.py` prints, of ours."""
    import jax

    from cnnc.backends.jax.forms.choice import PLAIN
    from cnnc.backends.jax.training.state import first_state
    from cnnc.backends.jax.training.step import training_step
    from cnnc.backends.jax.xla import compilation_cache
    from cnnc.backends.jax.xla.allocator import keep_freed_memory
    from cnnc.backends.protocols import Criterion

    keep_freed_memory()
    if contender == "cnnc-again":
        compilation_cache.enable()
    graph, recipe, weights, x, y = prepared(network, "bf16" if contender.endswith("bf16") else "f32")
    begun = time.perf_counter()
    criteria = (Criterion(CrossEntropy(), True),)
    step = training_step(graph, recipe, criteria, table=PLAIN if contender.endswith("plain") else None)
    state = first_state(graph, recipe, weights)
    x, y = jax.tree.map(jax.numpy.asarray, (x, y))
    rate: Any = np.float32(0.01)
    times = []
    for _ in range(2 + steps):
        start = time.perf_counter()
        state, measured = step(state, x, y, rate)
        float(measured.total)
        times.append(time.perf_counter() - start)
        first = times[0] if len(times) > 1 else time.perf_counter() - begun
    milliseconds = 1e3 * median(times[2:])
    return {"first_s": round(first, 2), "step_ms": round(milliseconds, 1)}


def losses(network: str, peers: Path) -> dict[str, float]:
    """The first loss of our plain step, of our tuned one, and of PyTorch with our weights."""
    import jax

    from cnnc.backends.jax.apply import apply
    from cnnc.backends.jax.forms.choice import PLAIN, chosen
    from cnnc.backends.jax.training.loss import losses as of
    from cnnc.backends.jax.xla.compile import jit

    graph, _, weights, x, (y,) = prepared(network)
    graph = padded_as_pytorch(graph)
    ((label, name),) = graph.outputs
    found = {}
    for kind, table in (("plain", PLAIN), ("tuned", chosen())):

        def loss(weights: Any, x: Any, table: Any = table) -> Any:
            outputs, _ = apply(graph, weights, x, train=True, logits=True, table=table)
            return of(CrossEntropy(), outputs[label], y, graph[name].op).mean()

        found[kind] = float(jit(loss)(weights, jax.tree.map(jax.numpy.asarray, x)))
    found["torch"] = loss_of_pytorch(graph, weights, network, peers)
    return found


def padded_as_pytorch(graph: Graph) -> Graph:
    """The graph with `same` written out as the peers pad: equally on both sides."""
    nodes = []
    for node in graph:
        op = node.op
        if isinstance(op, ops.Conv | ops.Depthwise) and op.padding == "same":
            op = replace(op, padding=tuple((size // 2, size // 2) for size in op.kernel))
        nodes.append(replace(node, op=op))
    return replace(graph, nodes=tuple(nodes))


def peers_network(network: str, peers: Path) -> Any:
    """The peer's network, a module of PyTorch's."""
    return _peer(network, peers)["net"]


def loss_of_pytorch(graph: Graph, weights: Any, network: str, peers: Path) -> float:
    """One forward pass of the peer's network with our weights."""
    import torch

    peer = _peer(network, peers)
    moved_to_pytorch(graph, weights, peer["net"])
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(peer["net"](peer["xt"]), peer["yt"]))


def _peer(network: str, peers: Path) -> dict[str, Any]:
    """All that the peer's script defines."""
    arguments, sys.argv = (
        sys.argv,
        ["peer_train.py", "torch", network, "--batch", str(NETWORKS[network][2]), "--steps", "1"],
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return runpy.run_path(str(peers / "peer_train.py"))
    finally:
        sys.argv = arguments


def moved_to_pytorch(graph: Graph, weights: Any, module: Any) -> None:
    """Put our weights into a module of PyTorch's, layers matched in order among those of one shape; norms alike."""
    import torch

    waiting = [node for node in graph if graph.weights(node)]

    def turned(node: Any, short: str) -> Any:
        array = np.asarray(weights[node.name][short])
        if short != "kernel":
            return array
        if isinstance(node.op, ops.Dense):
            before = graph[node.inputs[0]]
            if isinstance(before.op, ops.Flatten) and len(shape := graph.input_shapes(before)[0]) > 1:
                array = array.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(array.shape)
            return array.T
        return array.transpose(3, 2, 0, 1) if isinstance(node.op, ops.Conv) else array.transpose(2, 3, 0, 1)

    names = {"weight": ("kernel", "gamma"), "bias": ("bias", "beta")}
    with torch.no_grad():
        for layer in module.modules():
            own = dict(layer.named_parameters(recurse=False))
            if not own:
                continue
            node = next(n for n in waiting if _fits(n, own, turned, names, weights))
            waiting.remove(node)
            for name, parameter in own.items():
                short = next(s for s in names[name] if s in weights[node.name])
                parameter.copy_(torch.tensor(np.ascontiguousarray(turned(node, short))))
            if isinstance(node.op, ops.BatchNorm):
                layer.eps, layer.momentum = node.op.epsilon, 1 - node.op.momentum
                layer.reset_running_stats()
    assert not waiting, [node.name for node in waiting]


def _fits(node: Any, own: Any, turned: Any, names: Any, weights: Any) -> bool:
    for name, parameter in own.items():
        short = next((s for s in names[name] if s in weights[node.name]), None)
        if short is None or turned(node, short).shape != tuple(parameter.shape):
            return False
    return True


def timed(command: list[str]) -> dict[str, float]:
    """The JSON line that a process ends with, and its peak memory in MiB."""
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=nothing, text=True)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return {**json.loads(lines[-1]), "mib": usage.ru_maxrss // 1024}


def compare(network: str, asked: argparse.Namespace) -> None:
    batch = str(NETWORKS[network][2])
    peer = [str(asked.peers / "peer_train.py")]
    commands = {}
    for name in asked.contenders:
        if name in OURS:
            commands[name] = [sys.executable, __file__, str(asked.peers), "--one", name, "--networks", network]
        else:
            python = asked.flax_python if name == "flax" else sys.executable
            commands[name] = [python, *peer, name, network, "--batch", batch]
        commands[name] += ["--steps", str(asked.steps)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    if "cnnc-again" in commands:
        timed(commands["cnnc-again"])  # the first start, which keeps the program
    for _ in range(asked.rounds):
        for name, command in commands.items():
            found[name].append(timed(command))
    ours = median(each["step_ms"] for each in found[asked.contenders[0]])
    for name, each in found.items():
        step, first, memory = (median(one[key] for one in each) for key in ("step_ms", "first_s", "mib"))
        low, high = min(one["step_ms"] for one in each), max(one["step_ms"] for one in each)
        cells = [
            network,
            name,
            f"{step:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{step / ours:.2f}",
            f"{first:.1f}",
            f"{memory:.0f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="training steps beside other frameworks'")
    parser.add_argument("peers", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--contenders", nargs="+", choices=[*OURS, *PEERS], default=["cnnc", "cnnc-plain", *PEERS])
    parser.add_argument("--flax-python", default=sys.executable, help="an interpreter that has Flax")
    parser.add_argument("--one", choices=[*OURS, "losses"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one == "losses":
        print(json.dumps(losses(asked.networks[0], asked.peers)))
        return
    if asked.one:
        print(json.dumps(step_of_ours(asked.one, asked.networks[0], asked.steps)))
        return
    for network in asked.networks:
        # In a process of its own: a large parent counts in the peak memory of those it starts.
        found = timed([sys.executable, __file__, str(asked.peers), "--one", "losses", "--networks", network])
        del found["mib"]
        print(network, "first losses:", ", ".join(f"{name} {value:.6f}" for name, value in found.items()), flush=True)
        if max(found.values()) - min(found.values()) > 1e-4 * max(found.values()):
            raise SystemExit("the losses differ")
    print(f"\nload {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores\n")
    print(f"| network | who | ms a step | from-to | times {asked.contenders[0]} | s to the first step | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for network in asked.networks:
        compare(network, asked)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
