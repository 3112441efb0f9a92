"""Faults put into the sources one at a time, each tried against the fast tests that reach it.

    python -m bench.mutants [--seed 0] [--each 18] [--groups passes data ...] [--jobs 2] [--out mutants.json]

A mutant is a copy of the tree with one change: an operator, a constant, a condition that is negated, or a statement
that is gone. Which tests reach a line is measured once (`--cover` measures it anew) by a run of the fast suite under
coverage. Prints a line a mutant, then for each group how many were killed and what survived, with the change, to be
read: some change nothing that can be seen.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "build" / "mutants"
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "language": tuple(
        f"cnnc/{room}*.py" for room in ("", "language/", "ops/", "ir/", "recipe/", "elaboration/", "rendering/")
    ),
    "passes": ("cnnc/passes/*.py",),
    "data": ("cnnc/data/**/*.py",),
    "training": ("cnnc/runs/*.py", "cnnc/evaluation/*.py", "cnnc/training/*.py", "backends/jax/**/*.py"),
    "importing": ("cnnc/weights/**/*.py",),
    "tflite": ("backends/tflite/**/*.py", "cnnc/tflite_file/*.py", "cnnc/deployment/*.py"),
    "edgetpu": ("backends/edgetpu/*.py",),
}
FAST: Final = ("-q", "-m", "not slow", "-p", "no:cacheprovider")
MOST_SECONDS: Final = 120.0
"""Tests are tried shortest first until so much of their own time is used."""
OTHER: Final = {
    **{"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "is": "is not", "is not": "is"},
    **{"in": "not in", "not in": "in", "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "*", "**": "*"},
    **{"and": "or", "or": "and", "&": "|", "|": "&", "<<": ">>", ">>": "<<"},
}


@dataclass(frozen=True)
class Mutant:
    """A change of one file: the text of a span, given by offsets in bytes, becomes another."""

    group: str
    path: str
    line: int
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The source with the change made."""
        return source[: self.start] + self.text.encode() + source[self.end :]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed`, `survived`, or `unreached` where no fast test has to do with it."""

    mutant: Mutant
    state: str
    tests: int
    change: str


# Where a source can be changed


def mutants_of(group: str, path: str, source: bytes) -> list[Mutant]:
    """Every change of a file that is one of the kinds."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(at: Any) -> tuple[int, int]:
        return starts[at.lineno - 1] + at.col_offset, starts[at.end_lineno - 1] + at.end_col_offset

    found = []
    for node in _code(tree):
        for start, end, text in _changes(node, source, place):
            number = source.count(b"\n", 0, start) + 1
            found.append(Mutant(group, path, number, start, end, text))
    return found


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run: neither annotations nor documentation, nor assertions of what cannot be."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Assert | ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            yield child
            yield from _code(child)


def _changes(node: ast.AST, source: bytes, place: Any) -> Iterator[tuple[int, int, str]]:
    if isinstance(node, ast.BinOp):
        yield from _between(node.left, node.right, source, place)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from _between(node.left, node.comparators[0], source, place)
    elif isinstance(node, ast.BoolOp):
        yield from _between(node.values[0], node.values[1], source, place)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start, end = place(node)
        yield start, end, ast.unparse(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        start, end = place(node)
        yield start, end, str(not node.value) if isinstance(node.value, bool) else repr(node.value + 1)
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Constant):
        start, end = place(node.test)
        yield start, end, f"(not ({source[start:end].decode()}))"
    elif isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break) or _is_call(node):
        yield *place(node), "pass"


def _is_call(node: ast.AST) -> bool:
    """Whether a node is a statement for what it does, and no value that a generator gives."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _between(left: ast.expr, right: ast.expr, source: bytes, place: Any) -> Iterator[tuple[int, int, str]]:
    """The operator between two operands, with brackets and space round it left as they are."""
    start, end = place(left)[1], place(right)[0]
    text = source[start:end].decode()
    word = text.strip("() \n\\\t")
    if word in OTHER:
        at = start + len(text[: text.index(word)].encode())
        yield at, at + len(word.encode()), OTHER[word]


# Which tests reach a line


def cover() -> None:
    """Run the fast suite under coverage, and keep which tests run which lines and how long each takes."""
    KEPT.mkdir(parents=True, exist_ok=True)
    data = {"COVERAGE_FILE": str(KEPT / "coverage")}
    sources = ("--cov=cnnc", "--cov=backends", "--cov-context=test", "--cov-report=")
    command = [sys.executable, "-m", "pytest", *FAST, "-n", "2", "-p", "bench.mutants", *sources]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **data}, check=False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Keep how long each test took, as this module is a plugin of the run under coverage."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                seconds[report.nodeid] += report.duration
    (KEPT / "seconds.json").write_text(json.dumps(seconds))


class Reach:
    """Which tests run a line, shortest first."""

    def __init__(self) -> None:
        from coverage import CoverageData

        self.data = CoverageData(str(KEPT / "coverage"))
        self.data.read()
        self.seconds: dict[str, float] = json.loads((KEPT / "seconds.json").read_text())

    def of(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant's line.

        Of what runs when a module is imported, such as a limit, and of what only another process runs, those of the
        whole file and those of the test files that name its module, or else one that imports it: another process may
        run what that one writes.
        """
        path = ROOT / mutant.path
        by_line = self.data.contexts_by_lineno(str(path))
        tests = set() if _runs_on_import(path, mutant.line) else self._tests(by_line.get(mutant.line, ()))
        if not tests:
            every = self._tests({context for each in by_line.values() for context in each})
            tests = every | self._around(mutant.path)
        chosen: list[str] = []
        used = 0.0
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            used += self.seconds[test]
            if used > MOST_SECONDS:
                break
            chosen.append(test)
        return chosen

    def _tests(self, contexts: Collection[str]) -> set[str]:
        return {context.rpartition("|")[0] for context in contexts if context} & self.seconds.keys()

    def _around(self, path: str) -> set[str]:
        """The tests that name a module, or else the nearest of those that import it."""
        known, near = {path}, {path}
        while near:
            tests = set().union(*(self._naming(_dotted(each).rpartition(".")[2]) for each in near))
            if tests:
                return tests
            near = {user for each in near for user in users_of(each)} - known
            known |= near
        return set()

    def _naming(self, module: str) -> set[str]:
        word = re.compile(rf"\b{module}\b")
        files = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "tests").rglob("test_*.py")
            if word.search(path.read_text())
        }
        return {test for test in self.seconds if test.partition("::")[0] in files}


def _runs_on_import(path: Path, line: int) -> bool:
    """Whether a line is in no function's body; whichever test imports a module first is seen to run those."""
    functions = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef))
    return not any(node.body[0].lineno <= line <= (node.end_lineno or 0) for node in functions)


def _dotted(path: str) -> str:
    """The name by which a source is imported; a package's `__init__.py` is its folder."""
    place = Path(path)
    parts = (place.parent if place.stem == "__init__" else place.with_suffix("")).parts
    return ".".join(parts if parts[0] == "cnnc" else ("cnnc", *parts))


@cache
def _sources() -> Mapping[str, str]:
    """The text of every source by its path; folders that `cnnc` links to are there once."""
    paths = [path for folder in ("cnnc", "backends") for path in sorted((ROOT / folder).rglob("*.py"))]
    own = [path for path in paths if not path.is_relative_to(ROOT / "cnnc" / "backends")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in own}


@cache
def users_of(path: str) -> tuple[str, ...]:
    """The sources that import a module, at their head or within a function."""
    name = re.escape(_dotted(path))
    package, _, module = name.rpartition(r"\.")
    word = re.compile(
        rf"^\s*(?:from {name} import|import {name}\b|from {package} import (?:\([^)]*|.*)\b{module}\b)", re.MULTILINE
    )
    return tuple(other for other, text in _sources().items() if other != path and word.search(text))


# Trying them


def sample(groups: Sequence[str], each: int, seed: int) -> list[Mutant]:
    """So many mutants of every group, drawn by a seed, no two of them in one line."""
    found = []
    for group in groups:
        every = [
            mutant
            for pattern in GROUPS[group]
            for path in sorted(ROOT.glob(pattern))
            if not path.is_relative_to(ROOT / "cnnc" / "backends")
            for mutant in mutants_of(group, path.relative_to(ROOT).as_posix(), path.read_bytes())
        ]
        random.Random(f"{seed} {group}").shuffle(every)
        lines: set[tuple[str, int]] = set()
        chosen: list[Mutant] = []
        for mutant in every:
            if len(chosen) < each and (mutant.path, mutant.line) not in lines:
                lines.add((mutant.path, mutant.line))
                chosen.append(mutant)
        found += chosen
    return found


def copy_tree(folder: Path) -> Path:
    """The tracked files of the checkout in a folder of their own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def attempt(mutant: Mutant, tests: Sequence[str], tree: Path, seconds: float) -> str:
    """Run tests on a mutant in a copy of the tree, which is as it was afterwards."""
    path = tree / mutant.path
    source = path.read_bytes()
    arguments = tree / "mutant-tests.txt"
    arguments.write_text("\n".join(tests))
    command = [sys.executable, "-B", "-m", "pytest", *FAST, "-x", "--no-header", f"@{arguments}"]
    path.write_bytes(mutant.apply(source))
    try:
        ended = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            timeout=60 + 5 * seconds,
            check=False,
        )
        return "survived" if ended.returncode == 0 else "killed"
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        path.write_bytes(source)


def outcomes(mutants: Sequence[Mutant], reach: Reach, jobs: int) -> Iterator[Outcome]:
    """What became of each mutant, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            trees.put(copy_tree(Path(folder) / str(number)))

        def one(mutant: Mutant) -> Outcome:
            tests = reach.of(mutant)
            tree = trees.get()
            try:
                used = sum(reach.seconds[test] for test in tests)
                state = attempt(mutant, tests, tree, used) if tests else "unreached"
            finally:
                trees.put(tree)
            return Outcome(mutant, state, len(tests), change_of(mutant))

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, mutants)


def change_of(mutant: Mutant) -> str:
    """The lines of a change, before and after."""
    source = (ROOT / mutant.path).read_bytes()
    changed = mutant.apply(source)
    before = source.splitlines()[mutant.line - 1].decode().strip()
    after = changed.splitlines()[mutant.line - 1].decode().strip()
    return f"{before}\n    -> {after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=18, help="mutants of every group")
    parser.add_argument("--groups", nargs="+", choices=[*GROUPS], default=[*GROUPS])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cover", action="store_true", help="measure anew which tests reach which lines")
    parser.add_argument("--out", type=Path, help="a JSON file of all outcomes")
    options = parser.parse_args()
    if options.cover or not (KEPT / "seconds.json").exists():
        cover()
    found = []
    for outcome in outcomes(sample(options.groups, options.each, options.seed), Reach(), options.jobs):
        found.append(outcome)
        print(f"{outcome.state:9} {outcome.mutant.path}:{outcome.mutant.line} ({outcome.tests} tests)", flush=True)
    print()
    for group in options.groups:
        own = [outcome for outcome in found if outcome.mutant.group == group]
        killed = sum(outcome.state == "killed" for outcome in own)
        print(f"{group}: {killed} of {len(own)} killed")
        for outcome in own:
            if outcome.state != "killed":
                print(f"  {outcome.state} {outcome.mutant.path}:{outcome.mutant.line}\n    {outcome.change}")
    if options.out:
        options.out.write_text(json.dumps([asdict(outcome) for outcome in found], indent=1))


if __name__ == "__main__":
    main()
