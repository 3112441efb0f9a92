"""Which module may import which, who prints, and what a start of the program leaves unimported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = {"cnnc": ROOT / "cnnc", **{f"cnnc.{name}": ROOT / name for name in ("backends", "grammar", "specs")}}
ROOTS = ("cnnc", "bench", "tests")
LAYERS = (
    "frozen printable wording documents diagnostics overrides files",
    "ops",
    "recipe",
    "grammar specs language",
    "ir",
    "elaboration",
    "rendering",
    "tflite_file passes",
    "backends net backends.protocols backends.reference backends.jax backends.tflite backends.edgetpu backends.keras",
    "loading weights data",
    "runs",
    "evaluation",
    "training",
    "deployment activations",
    "cnnc cli",
)
"""From the foundation up: a module imports from those before it, and within its own package."""
PARTS = [name if name == "cnnc" else f"cnnc.{name}" for layer in LAYERS for name in layer.split()]


def _modules(folders: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
            if package != "cnnc" or not name.startswith(tuple(FOLDERS)[1:]):
                yield name, path


MODULES = dict(_modules(FOLDERS))
ALL_MODULES = {**MODULES, **dict(_modules({name: ROOT / name for name in ("bench", "tests")}))}


def _part(module: str) -> str:
    """The entry of the layers that a module is or lies in: the longest that matches."""
    if module == "cnnc":
        return module
    return max((part for part in PARTS if f"{module}.".startswith(f"{part}.") and part != "cnnc"), key=len, default="")


@cache
def _imported(module: str, *, typed: bool = False) -> frozenset[str]:
    """The modules of the project that a module imports, wherever in it: to run, and with `typed` for its types too."""
    return frozenset(_imports(ast.parse(ALL_MODULES[module].read_text(encoding="utf-8")), typed=typed))


def _imports(node: ast.AST, *, typed: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if not typed and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and child.module and child.module.partition(".")[0] in ROOTS:
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield inner if inner in ALL_MODULES else child.module
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name.partition(".")[0] in ROOTS)
        yield from _imports(child, typed=typed)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_those_below_it(module: str) -> None:
    own = _part(module)
    assert own, f"{module} is not in LAYERS"
    for imported in _imported(module):
        part = _part(imported)
        assert part == own or PARTS.index(part) < PARTS.index(own), f"{module} imports {imported}"


def _folder(module: str) -> str:
    """The folder that a module lies in, and for those at the root of `cnnc` or `backends` the module itself."""
    folder = module if ALL_MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if folder in FOLDERS else folder


@pytest.mark.parametrize("unit_of", [str, _folder], ids=["modules", "folders"])
def test_imports_run_in_no_circle(unit_of: Callable[[str], str]) -> None:
    imported: dict[str, set[str]] = {}
    for module in ALL_MODULES:
        imported.setdefault(unit_of(module), set()).update(map(unit_of, _imported(module, typed=True)))
    circle: list[str] = []
    try:
        TopologicalSorter({unit: units - {unit} for unit, units in imported.items()}).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, f"each is imported by the next: {', '.join(circle)}"


def test_operators_know_nothing_of_spans() -> None:
    for module in MODULES:
        if _part(module) == "cnnc.ops":
            parts = {_part(name) for name in _imported(module)}
            assert parts <= {"cnnc.ops", "cnnc.frozen"}, module


def test_backends_know_nothing_of_each_other() -> None:
    for module in MODULES:
        for imported in _imported(module):
            if module.startswith("cnnc.backends.") and imported.startswith("cnnc.backends."):
                assert _part(imported) in (_part(module), "cnnc.backends.protocols"), f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) != "cnnc.cli"])
def test_only_the_command_line_prints(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.stdout.write", "sys.stderr.write"), f"{module} prints"


HEAVY = ("jax", "keras", "matplotlib", "numpy", "optax", "PIL", "rich", "sklearn", "tensorflow", "torch")


def _imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_leaves_the_heavy_packages_out() -> None:
    assert _imported_by("import cnnc").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "arguments", [["check", "resnet50"], ["show", "resnet50"], ["list"], ["fmt", "--check", "-"], ["-h"]]
)
def test_commands_that_compute_nothing_leave_the_heavy_packages_out(arguments: list[str]) -> None:
    code = "import io; from cnnc.cli import main\nsys.stdin = io.StringIO('')\n"
    code += f"try: main({arguments})\nexcept SystemExit: pass"
    assert _imported_by(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("target", ["tflite", "tflite-int8", "edgetpu"])
def test_compiling_to_tflite_leaves_the_frameworks_out(target: str, tmp_path: Path) -> None:
    arguments = ["compile", "mlp", "--random-weights", "--target", target, "-o", str(tmp_path / "mlp.tflite")]
    code = f"from cnnc.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert _imported_by(code).isdisjoint({*HEAVY, "yaml"} - {"numpy"})
    assert (tmp_path / "mlp.tflite").is_file()


def test_predicting_for_the_edge_tpu_leaves_the_frameworks_out() -> None:
    code = "from cnnc.cli import main\ntry: main(['check', 'mlp', '--target', 'edgetpu'])\nexcept SystemExit: pass"
    assert _imported_by(code).isdisjoint({*HEAVY, "ai_edge_litert"} - {"numpy"})
