"""Files changed at random, through every command that takes one: it does what it is asked, or says what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("jax")

from bench.mutations import COMMANDS, OURS, SHARED, Outcome, prepare, run, table  # after JAX is known to be there

Prepared = tuple[Path, dict[str, bytes]]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("mutations")
    return root, prepare(root, root)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("mutations")
    return root, prepare(root, SHARED)


def outcomes(prepared: Prepared, seed: int, count: int) -> list[Outcome]:
    """What the commands say of mutations, none of it a fault of ours."""
    root, subjects = prepared
    found = [run(root, subjects, seed, number) for number in range(count)]
    assert not [each for each in found if each.is_fault]
    return found


def require_breadth(found: Sequence[Outcome]) -> None:
    """Mutations that end a command, and such that it survives, of every command."""
    words = Counter((each.command, each.word) for each in found)
    for command in COMMANDS:
        assert words[command, "did what it was asked"] > 0
        assert words[command, "the file is damaged"] > 0


@pytest.mark.fault("S3", "S10")
def test_mutations_end_no_command_but_with_a_message(ours: Prepared) -> None:
    require_breadth(outcomes(ours, 1, 72))


@pytest.mark.slow
@pytest.mark.fault("S3", "S10")
def test_many_mutations_end_no_command_but_with_a_message(every: Prepared) -> None:
    require_breadth(outcomes(every, 2, 2000))


def test_the_files_are_whole_to_begin_with(ours: Prepared) -> None:
    _, subjects = ours
    assert {*OURS} <= {*subjects}
    assert all(len(data) > 1000 for data in subjects.values())


def test_the_table_counts_what_each_command_said() -> None:
    found = [Outcome(i, "float", "cut", "predict", "the file is damaged", "") for i in range(3)]
    assert "| the file is damaged | 3 | 0 | 0 | 0 | 0 | 0 |" in table(found)
