"""The devices and processes that share a training, and what they do together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from cnnc import backends
from cnnc.data.feeding.feed import Shard
from cnnc.diagnostics import CnnError
from cnnc.runs.events import Report, Said

VOTE_LAG: Final = 8
"""Steps that are begun before the host looks at what the processes wished at the first of them."""


class Group(Protocol):
    """The processes of a training as one of them sees them: `cnnc.backends.jax.distributed.processes.Group`."""

    index: int
    count: int
    resume: str | None

    def gather(self, value: Any) -> list[Any]: ...
    def share(self, value: Any) -> Any: ...
    def agree(self, facts: Mapping[str, str]) -> None: ...
    def wait_for_all(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Team:
    """Who trains: `cnnc.backends.jax.distributed.devices.Devices`, and a group where several processes do."""

    devices: Any
    group: Group | None = None

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do: say how it goes, and write files."""
        return self.group is None or self.group.index == 0

    @property
    def shard(self) -> Shard:
        """The part of every batch that this process reads."""
        return Shard(*self.devices.part)

    def gather(self, value: Any) -> list[Any]:
        """What every process says, in order."""
        return [value] if self.group is None else self.group.gather(value)

    def wait(self, name: str) -> None:
        """Go on when all processes have come here; `name` says where that is."""
        if self.group is not None:
            came = self.group.gather(name)
            assert set(came) == {name}, came

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raises CnnError of code `process`, in every process, where they differ in what they are about to do."""
        if self.group is not None:
            self.group.agree(facts)

    def led(self, path: Path | None) -> Path:
        """The folder that process 0 gives, in all processes, which must see it.

        Raises:
            CnnError: of code `process`, in every process, when one of them does not.
        """
        if self.group is None:
            assert path is not None
            return path
        shared = Path(self.group.share(None if path is None else str(path.absolute())))
        blind = [index for index, sees in enumerate(self.gather(shared.is_dir())) if not sees]
        if blind:
            raise CnnError.of(
                "process",
                f"process {blind[0]} does not see the run's folder `{shared}`",
                help="all processes write into it: give by --out a folder that all machines share",
            )
        self.group.resume = f"cnnc train --resume {shared}"
        return shared if path is None else path


class Wishes:
    """What the processes wish for at every step, so that all do the same after the same step.

    A wish is a number, and the greatest counts. One process has its wish at once; several hear of it some steps later.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self._cast = deque[Any]()

    def __call__(self, wish: int) -> int:
        """The wish that all follow after this step. All processes must ask at every step."""
        if self.team.group is None:
            return wish
        self._cast.append(self.team.devices.greatest(wish))
        return int(self._cast.popleft()) if len(self._cast) > VOTE_LAG else 0

    def fulfilled(self) -> None:
        """Forget what was wished for before it was done."""
        self._cast.clear()


def team_of(mesh: str | None = None, group: Group | None = None) -> Team:
    """All devices in the layout of a text such as `data=8,model=2`, by default all on data.

    Raises:
        CnnError: they cannot be laid out so.
    """
    return Team(backends.load("jax", "distributed.devices").devices_of(mesh), group)


def make_ready(report: Report) -> None:
    """What comes before jax's first array: memory that is kept, and programs that were compiled before.

    What stands in the way of keeping programs is reported.
    """
    backends.load("jax", "xla.allocator").keep_freed_memory()
    told = backends.load("jax", "xla.compilation_cache").enable()
    if told is not None:
        report(Said(told))


def alone() -> Team:
    """One device of this process."""
    return Team(backends.load("jax", "distributed.devices").ONE_DEVICE)
