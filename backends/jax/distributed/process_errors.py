"""Errors of processes that do not come, do not agree or are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnc.diagnostics import CnnError


def require_same(facts: Sequence[Mapping[str, str]]) -> None:
    """Raises CnnError of code `process` when processes differ: what each says, a note for every name."""
    notes = []
    for name in dict.fromkeys(name for known in facts for name in known):
        values: dict[str, list[int]] = {}
        for index, known in enumerate(facts):
            values.setdefault(known.get(name, "nothing"), []).append(index)
        if len(values) > 1:
            said = ", ".join(f"{value} in {_named(indices)}" for value, indices in values.items())
            notes.append(f"{name} is {said}")
    if notes:
        raise CnnError.of(
            "process",
            "the processes do not do the same",
            notes=notes,
            help="start all of them with the same spec, options, data and versions; only `--process` is each one's own",
        )


def gone(message: Mapping[str, Any], count: int, help: str | None) -> CnnError:
    """Of the hub's message that a process is gone."""
    who = f"process {message['gone']} of {count} ({message['place']})"
    if message["stopped"] is not None:
        return CnnError.of("process", f"{who} stopped", notes=[f"it says: {message['stopped']}"], help=help)
    return CnnError.of("process", f"{who} is gone: {message['how']}", help=help)


def refused(message: Mapping[str, Any], index: int, count: int) -> CnnError:
    """Of the hub's message that this process cannot join."""
    match message["refused"]:
        case "count":
            return CnnError.of("process", f"process 0 says that there are {message['count']} processes, not {count}")
        case "taken":
            return CnnError.of(
                "process",
                f"process {index} is already running ({message['place']})",
                help="give every process an index of its own: --process 0, --process 1, ...",
            )
        case "missing":
            return late(message["missing"], float(message["seconds"]))
    return CnnError.of("process", "the training has begun without this process", help="start all processes again")


def late(missing: Sequence[int], seconds: float) -> CnnError:
    """Of processes that did not come."""
    return CnnError.of("process", f"{_named(missing)} did not come within {seconds:.0f} seconds")


def _named(indices: Sequence[int]) -> str:
    """`process 3`, `processes 0, 1 and 2`."""
    if len(indices) == 1:
        return f"process {indices[0]}"
    return f"processes {', '.join(map(str, indices[:-1]))} and {indices[-1]}"
