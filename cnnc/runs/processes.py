"""The devices and processes that share a training, and what they do together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, SupportsInt, TypeVar

from cnnc.backends.protocols import Devices, ProcessGroup, load_training
from cnnc.data.feeding.feed import Shard
from cnnc.diagnostics import CnnError
from cnnc.runs.events import Message, Report

T = TypeVar("T")
VOTE_LAG: Final = 8
"""Steps that are begun before the host looks at what the processes voted for at the first of them."""


@dataclass(frozen=True, eq=False)
class Cluster:
    """The devices that share a training, and their processes where there are several."""

    devices: Devices
    group: ProcessGroup | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this process does what only one may do: say how it goes, and write files."""
        return self.group is None or self.group.index == 0

    @property
    def shard(self) -> Shard:
        """The part of every batch that this process reads."""
        return Shard(*self.devices.part)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        return [value] if self.group is None else self.group.gather(value)

    def barrier(self, name: str) -> None:
        """Go on when all processes have come here; `name` says where that is."""
        if self.group is not None:
            names = self.group.gather(name)
            assert set(names) == {name}, names

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raises CnnError of code `process`, in every process, where they differ in what they are about to do."""
        if self.group is not None:
            self.group.agree(facts)

    def share_folder(self, path: Path | None) -> Path:
        """The folder that process 0 gives, in all processes, which must see it.

        Raises:
            CnnError: of code `process`, in every process, when one of them does not.
        """
        if self.group is None:
            assert path is not None
            return path
        text = self.group.share(None if path is None else str(path.absolute()))
        assert text is not None
        shared = Path(text)
        blind = [index for index, sees in enumerate(self.gather(shared.is_dir())) if not sees]
        if blind:
            raise CnnError.of(
                "process",
                f"process {blind[0]} does not see the run's folder `{shared}`",
                help="all processes write into it: give by --out a folder that all machines share",
            )
        self.group.resume = f"cnnc train --resume {shared}"
        return shared if path is None else path


class Vote:
    """The choice that the processes of a cluster make at every step, so that all do the same after the same step.

    A choice is a number, and the greatest wins. One process has it at once; several hear of it some steps later.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._votes = deque[SupportsInt]()

    def cast(self, choice: int) -> int:
        """The choice that all follow after this step. All processes must vote at every step."""
        if self.cluster.group is None:
            return choice
        self._votes.append(self.cluster.devices.greatest(choice))
        return int(self._votes.popleft()) if len(self._votes) > VOTE_LAG else 0

    def clear(self) -> None:
        """Forget the votes that are out: what they were for is done."""
        self._votes.clear()


def cluster_of(mesh: str | None = None, group: ProcessGroup | None = None) -> Cluster:
    """All devices in the layout of a text such as `data=8,model=2`, by default all on data.

    Raises:
        CnnError: they cannot be laid out so.
    """
    return Cluster(load_training().devices_of(mesh), group)


def local_cluster() -> Cluster:
    """One device of this process."""
    return Cluster(load_training().ONE_DEVICE)


def make_ready(report: Report) -> None:
    """Do what comes before jax's first array: keep freed memory, and programs that were compiled before.

    An obstacle to keeping programs is reported.
    """
    backend = load_training()
    backend.keep_freed_memory()
    obstacle = backend.enable_compilation_cache()
    if obstacle is not None:
        report(Message(obstacle))
