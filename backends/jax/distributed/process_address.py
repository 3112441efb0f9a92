"""Where a process stands among those of a training: as its user says it, or as the cluster does."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.diagnostics import CnnError


@dataclass(frozen=True)
class Place:
    """Where a process stands in a training: the hub's address, how many there are, which it is.

    `local` are the devices of its machine that are its own, None for all.
    """

    coordinator: str
    count: int
    index: int
    local: tuple[int, ...] | None = None


def address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises CnnError of code `value` where it is not of that form."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 1 << 16:
        found = f"`{text}` has no port" if not colon else f"`{text}` is not of the form HOST:PORT"
        raise CnnError.of(
            "value",
            found,
            help="give the address of process 0's machine and a port that is free there, such as 10.0.0.1:1234",
        )
    return host.strip("[]"), int(port)


def require_index(index: int, count: int) -> None:
    """Raises CnnError of code `value` when there is no such process."""
    if count < 1 or not 0 <= index < count:
        raise CnnError.of(
            "value",
            f"there is no process {index} of {count}",
            help=f"processes are counted from 0: --process 0 up to --process {count - 1}" if count > 0 else None,
        )


def detected() -> Place:
    """The address that the cluster gives this process: SLURM, Open MPI, Kubernetes, a Cloud TPU.

    Raises:
        CnnError: of code `process` where there is no such thing.
    """
    from jax._src import clusters

    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 60)
    coordinator, count, index, local = found
    if coordinator is None or count is None or index is None:
        raise CnnError.of(
            "process",
            "this is no cluster that is known: neither SLURM nor Open MPI, Kubernetes or a Cloud TPU has started this",
            help="say it by --coordinator HOST:PORT --processes N --process I",
        )
    return Place(coordinator, count, index, None if local is None else tuple(local))
