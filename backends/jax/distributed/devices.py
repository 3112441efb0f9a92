"""The devices that a training runs on, and where arrays lie on them: batches over `data`, large weights over `model`.

The step itself knows nothing of it. It is compiled once for arrays that lie so, and XLA's partitioner (GSPMD, Xu et al.
2021) gives every device its part of the work: batch norm's statistics are those of the whole batch, gradients are
summed, what drops at random drops as on one device.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import Any, Final, SupportsInt, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from numpy.typing import NDArray

from cnnc.backends.jax.distributed.mesh_layout import AXES, Layout, layout_of, require_even
from cnnc.backends.jax.xla.compile import user_flags
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ops import Dense

Tree = TypeVar("Tree")
LARGE: Final = 1 << 20
"""Values from which on a dense layer's matrix is split over `model`: below it, sending costs more than it saves."""


@dataclass(frozen=True, eq=False)
class Devices:
    """A mesh of all devices of all processes; without one there is one device, and arrays are as ever."""

    mesh: Mesh | None = None

    @property
    def layout(self) -> Layout:
        """How the batch and the large weights are split."""
        return Layout(1, 1) if self.mesh is None else Layout(*(self.mesh.shape[axis] for axis in AXES))

    @property
    def part(self) -> tuple[int, int]:
        """Which part of every global batch this process reads: its index, and how many equal ones there are.

        Processes that share a part between their devices read the same.
        """
        if self.mesh is None:
            return 0, 1
        mine = jax.process_index()
        rows = [i for i, row in enumerate(self.mesh.devices) if any(device.process_index == mine for device in row)]
        return rows[0] // len(rows), self.layout.data // len(rows)

    def require_even(self, batch: int, most: int | None = None) -> None:
        """Raises CnnError of code `value` when the mesh does not split a batch into equal parts: `require_even`."""
        require_even(batch, self.layout, most)

    def place_batch(self, tree: Tree) -> Tree:
        """A process's part of a batch, arrays `(batch / count, ...)`, as its share of the global arrays."""
        if self.mesh is None:
            return tree
        sharding, count = NamedSharding(self.mesh, _over("data")), self.part[1]

        def place(local: NDArray[Any]) -> jax.Array:
            shape = (len(local) * count, *local.shape[1:])
            placed: jax.Array = jax.make_array_from_process_local_data(sharding, local, shape)  # type: ignore[no-untyped-call]
            return placed

        batch: Tree = jax.tree.map(place, tree)
        return batch

    def place_state(self, graph: Graph, state: Tree) -> Tree:
        """A training's state, or any tree of weights, laid out on the mesh. It must be the same in every process."""
        if self.mesh is None:
            return state
        placed: Tree = jax.tree.map(_placed, state, self.sharding_of(graph, state))
        return placed

    def sharding_of(self, graph: Graph, tree: Any) -> Any:
        """Where every leaf of a state lies, as a tree of shardings; None with one device.

        All is on every device but the weights of large dense layers, which are split by their outputs. What an
        optimizer remembers of a weight, and averages of it, lies as that does: such leaves end in the same names.
        """
        if self.mesh is None:
            return None
        split = _split(graph, self.layout.model)
        mesh = self.mesh

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            shape, spec = split.get(tuple(str(getattr(entry, "key", "")) for entry in path[-2:]), ((), _over()))
            return NamedSharding(mesh, spec if tuple(np.shape(leaf)) == shape else _over())

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def target(self, graph: Graph, state: Any) -> Any:
        """Shapes, types and places of a state's leaves: what a checkpoint is to be restored to, whoever wrote it."""
        shapes = jax.eval_shape(_same, state)
        if self.mesh is None:
            return jax.tree.map(lambda shape: _lying(shape, SingleDeviceSharding(jax.local_devices()[0])), shapes)
        return jax.tree.map(_lying, shapes, self.sharding_of(graph, state))

    def constrain(self, graph: Graph, tree: Any) -> Any:
        """The results of a compiled function, made to lie as `sharding_of` says: measurements are whole everywhere."""
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.sharding_of(graph, tree))  # type: ignore[no-untyped-call]

    def whole(self, tree: Tree) -> Tree:
        """The tree's arrays as this process can read them, even if they lie in parts on devices of others."""
        if self.mesh is None or all(map(_is_readable, jax.tree.leaves(tree))):
            return tree
        gathered: Tree = jax.jit(_same, out_shardings=NamedSharding(self.mesh, _over()))(tree)
        return gathered

    def fetch(self, tree: Tree) -> Tree:
        """A copy of the whole tree in this process's memory, which outlives the step that its arrays are donated to."""
        copied: Tree = jax.tree.map(np.array, self.whole(tree))
        return copied

    def greatest(self, value: int) -> SupportsInt:
        """The greatest of the numbers that the processes give, to be read later: `int(...)` waits for it.

        All processes must call it at the same places. The call itself waits for nothing, so it can accompany steps.
        """
        if self.mesh is None or jax.process_count() == 1:
            return value
        mine = np.full(self.layout.data // self.part[1], value, np.int32)
        votes: SupportsInt = jax.jit(_greatest, out_shardings=NamedSharding(self.mesh, _over()))(self.place_batch(mine))
        return votes


ONE_DEVICE: Final = Devices()


def devices_of(text: str | None = None) -> Devices:
    """All devices in the layout that a text such as `data=8,model=2` asks for, by default all on data.

    Raises:
        CnnError: of code `value` when the devices cannot be laid out so.
    """
    _make_room()
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    layout = layout_of(text, len(devices))
    if len(devices) == 1:
        return Devices()
    _require_whole_rows(jax.local_device_count(), layout.model)
    return Devices(Mesh(np.array(devices).reshape(layout), AXES))


def _make_room() -> None:
    """Let XLA have threads for devices that it makes of one CPU. It must be done before jax knows its devices.

    By default there are as many as cores. With more devices than that, those that wait for each other in a sum or two
    take all, and none is left for whom they wait.
    """
    flags = user_flags(os.environ.get("XLA_FLAGS", ""))
    wanted = os.environ.get("JAX_NUM_CPU_DEVICES") or flags.get("xla_force_host_platform_device_count", "")
    if wanted.isdigit():
        os.environ.setdefault("NPROC", str(max(8 * int(wanted), os.cpu_count() or 1)))


def _is_readable(leaf: jax.Array) -> bool:
    return leaf.is_fully_addressable or leaf.is_fully_replicated


def _require_whole_rows(local: int, model: int) -> None:
    """A process's devices must make up whole parts of the batch, or lie within one."""
    if local % model and model % local:
        raise CnnError.of(
            "value",
            f"`model={model}` cuts through processes: each has {local} devices",
            help=f"--mesh model={local}, or a number that divides {local}",
        )


def _split(graph: Graph, parts: int) -> dict[tuple[str, ...], tuple[tuple[int, ...], PartitionSpec]]:
    """Shape and split of every weight that is split, by node and short name."""
    found: dict[tuple[str, ...], tuple[tuple[int, ...], PartitionSpec]] = {}
    for node in graph:
        weights = graph.weights(node)
        if not isinstance(node.op, Dense) or not weights:
            continue
        if prod(weights["kernel"].shape) < LARGE or node.op.units % parts:
            continue
        for short, weight in weights.items():
            spec = _over(*[None] * (len(weight.shape) - 1), "model")
            found[node.name, short] = (tuple(weight.shape), spec)
    return found


def _over(*axes: str | None) -> PartitionSpec:
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]  # jax leaves it so


def _placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array):
        if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        if not leaf.is_fully_addressable or leaf.is_deleted():
            moved: jax.Array = jax.jit(_same, out_shardings=sharding)(leaf)
            return moved
    host = np.asarray(leaf)
    # device_put would ask every process whether it has the same, leaf by leaf.
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _same(tree: Any) -> Any:
    return tree


def _greatest(votes: jax.Array) -> jax.Array:
    return votes.max()


def _lying(leaf: jax.ShapeDtypeStruct, sharding: Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # type: ignore[no-untyped-call]
