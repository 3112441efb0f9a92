"""Which layer an instruction of a compiled program belongs to, by the scopes that `apply` names after nodes.

XLA keeps an operation's path of scopes as `op_name`: `jit(step)/transpose(jvp(body.conv4))/conv_general_dilated` is
the backward pass of the node `body.conv4`. What XLA adds has none; it belongs to what it was made of, or for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Owner = str
"""A node's name, or one of the following."""
OPTIMIZER: Final = "(optimizer)"
"""The part outside of the network and of its gradient: the update, the norms, the average."""
LOSS: Final = "(loss)"
"""The differentiated part that is in no layer."""

_INSTRUCTION: Final = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_COMPUTATION: Final = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OPCODE: Final = re.compile(r"(?:^|\s)([a-z][\w\-]*)\(")
_OP_NAME: Final = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_CALLED: Final = re.compile(r"(?:calls|body|condition|to_apply|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_NAME: Final = re.compile(r"%([\w.\-]+)")
_JITTED: Final = re.compile(r"jit\([^()]*\)")
_SEPARATOR: Final = re.compile(r"[/();]+")
_ROUNDS: Final = 8
"""How far an owner is handed on along instructions without one."""
_CALLS: Final = ("while", "call", "conditional", "async-start", "async-done")


@dataclass
class Instruction:
    """A line of a program."""

    opcode: str
    operands: tuple[str, ...]
    called: tuple[str, ...]
    computation: str
    path: str | None
    owner: Owner | None = None
    users: list[str] = field(default_factory=list)

    @property
    def is_call(self) -> bool:
        """Whether it only runs others, which have lines of their own."""
        return self.opcode in _CALLS


def instructions(text: str, nodes: Iterable[str]) -> dict[str, Instruction]:
    """Every instruction of a compiled program's text by its name, with its owner where that can be told."""
    known = frozenset(nodes)
    found: dict[str, Instruction] = {}
    computation = ""
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            found[match[1]] = _instruction(match[2], computation, known)
        elif match := _COMPUTATION.match(line):
            computation = match[1]
    for name, instruction in found.items():
        for operand in instruction.operands:
            if operand in found:
                found[operand].users.append(name)
    _spread(found)
    return found


def owner_of(path: str, nodes: frozenset[str]) -> Owner | None:
    """The node that a path of scopes leads through, the innermost of several; or what else it is for."""
    if path.startswith("state.optimizer") or path.startswith("state.averaged"):
        return OPTIMIZER
    if not path.startswith("jit("):
        return None
    # The last part is the operation, which may be called as a node is. So may a function that is compiled within.
    scopes, _, _ = path.partition(";")
    inner = [part for part in _SEPARATOR.split(_JITTED.sub("", scopes.rpartition("/")[0])) if part]
    for part in reversed(inner):
        if part in nodes:
            return part
    return LOSS if "jvp(" in scopes else OPTIMIZER


def _instruction(line: str, computation: str, nodes: frozenset[str]) -> Instruction:
    opcode = _OPCODE.search(line)
    path = _OP_NAME.search(line)
    called = tuple(name.lstrip("%") for given in _CALLED.findall(line) for name in given.strip("{}").split(", "))
    operands = tuple(name for name in _NAME.findall(line) if name not in called)
    found = Instruction(opcode[1] if opcode else "", operands, called, computation, path[1] if path else None)
    found.owner = owner_of(found.path, nodes) if found.path else None
    return found


def _spread(found: Mapping[str, Instruction]) -> None:
    """Give owners to instructions without one: of what they call, of what they are made of, of what uses them.

    What is left within a called computation belongs to its caller.
    """
    members: dict[str, list[Instruction]] = {}
    for instruction in found.values():
        members.setdefault(instruction.computation, []).append(instruction)
    for instruction in found.values():
        if instruction.owner is None and instruction.called:
            owners = [each.owner for name in instruction.called for each in members.get(name, [])]
            instruction.owner = _commonest(owners)
    for direction in ("operands", "users"):
        for _ in range(_ROUNDS):
            if not _hand_on(found, "operands" if direction == "operands" else "users"):
                break
    for instruction in found.values():
        for name in instruction.called:
            for each in members.get(name, []):
                each.owner = each.owner or instruction.owner


def _hand_on(found: Mapping[str, Instruction], direction: Literal["operands", "users"]) -> bool:
    """One step along the program. Whether anything changed."""
    given = {}
    for name, instruction in found.items():
        if instruction.owner is None and instruction.opcode not in ("parameter", "constant"):
            owners = [found[other].owner for other in getattr(instruction, direction) if other in found]
            if (owner := _commonest(owners)) is not None:
                given[name] = owner
    for name, owner in given.items():
        found[name].owner = owner
    return bool(given)


def _commonest(owners: Iterable[Owner | None]) -> Owner | None:
    """The owner that occurs most often, a node before what is none."""
    counts = Counter(owner for owner in owners if owner is not None)
    return max(counts, key=lambda owner: (not owner.startswith("("), counts[owner])) if counts else None
