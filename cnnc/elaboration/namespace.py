"""The blocks that a file sees: its own, those it imports, the prelude's."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import field
from functools import cache
from pathlib import Path

from cnnc.diagnostics import CnnError, Diagnostic, Label, Source, Span, did_you_mean
from cnnc.frozen import dataclass
from cnnc.language import LONGEST_FILE, parse, parse_part, syntax
from cnnc.wording import reason_of

PRELUDE = "<prelude>"
DEEPEST_IMPORTS = 32
MOST_FILES = 100


@dataclass(frozen=True)
class ScopedBlock:
    """A block and the namespace that its body sees."""

    definition: syntax.Block
    namespace: Namespace = field(repr=False)


@dataclasses.dataclass
class Namespace:
    """The blocks of a file by name; what it does not have is looked for in `outer`.

    `unread` are blocks that are parsed when they are asked for.
    """

    blocks: dict[str, ScopedBlock]
    outer: Namespace | None = None
    unread: dict[str, Span] = field(default_factory=dict)

    def find(self, name: str) -> ScopedBlock | None:
        """The block of a name."""
        if name in self.unread:
            (block,) = parse_part(self.unread.pop(name)).blocks
            self.blocks[name] = ScopedBlock(block, self)
        own = self.blocks.get(name)
        return own if own or self.outer is None else self.outer.find(name)

    def names(self) -> set[str]:
        """The names of all blocks that are seen."""
        return self.blocks.keys() | self.unread.keys() | (self.outer.names() if self.outer else set())


_BLOCK = re.compile(r"^block (\w+)(?:.|\n)*?^}$", re.MULTILINE)


@cache
def prelude() -> Namespace:
    """The blocks of grammar/prelude.cnn, none of them parsed yet: a spec uses few."""
    source = Source(PRELUDE, (Path(__file__).parent.parent / "grammar" / "prelude.cnn").read_text(encoding="utf-8"))
    unread = {match[1]: Span(source, match.start(), match.end()) for match in _BLOCK.finditer(source.text)}
    return Namespace({}, unread=unread)


@dataclass(frozen=True)
class CompilationUnit:
    """A file, what it sees, and all files that it is made of, itself first, each with the blocks that it sees.

    `duplicates` are the blocks that are defined twice.
    """

    file: syntax.File
    namespace: Namespace
    files: tuple[tuple[syntax.File, Namespace], ...]
    duplicates: tuple[Diagnostic, ...]


def load(source: Source, folder: Path | None) -> CompilationUnit:
    """A source parsed, with what it imports from `folder` on. Without a folder nothing can be imported.

    Raises:
        CnnError: of the parser's codes, or `import`.
    """
    return _Loader().load(source, folder, ())


class _Loader:
    """Reads every file once; knows which are being read, for cycles."""

    def __init__(self) -> None:
        self.done: dict[Path, CompilationUnit] = {}

    def load(self, source: Source, folder: Path | None, chain: tuple[Path, ...]) -> CompilationUnit:
        file = parse(source)
        namespace = Namespace({}, prelude())
        all_files = [(file, namespace)]
        duplicates: list[Diagnostic] = []
        for statement, imported in self._imports(file, folder, chain):
            for name, block in imported.namespace.blocks.items():
                present = namespace.blocks.setdefault(name, block)
                if present.definition is not block.definition:
                    labels = [Label(present.definition.name.span, "one here")]
                    labels.append(Label(block.definition.name.span, "another here"))
                    message = f"two imports define the block `{name}`"
                    duplicates.append(Diagnostic("duplicate", message, Label(statement.span), tuple(labels)))
            known = {id(f) for f, _ in all_files}
            all_files.extend((f, seen) for f, seen in imported.files if id(f) not in known)
            duplicates.extend(d for d in imported.duplicates if d not in duplicates)
        for definition in file.blocks:
            name = definition.name.text
            present = namespace.blocks.setdefault(name, ScopedBlock(definition, namespace))
            if present.definition is not definition:
                first = Label(present.definition.name.span, "first here")
                message = f"the block `{name}` is defined twice"
                duplicates.append(Diagnostic("duplicate", message, Label(definition.name.span), (first,)))
        return CompilationUnit(file, namespace, tuple(all_files), tuple(duplicates))

    def _imports(
        self, file: syntax.File, folder: Path | None, chain: tuple[Path, ...]
    ) -> list[tuple[syntax.Import, CompilationUnit]]:
        """Every import with the file that it brings. Raises CnnError with the faults of all of them."""
        diagnostics: list[Diagnostic] = []
        imports = []
        for statement in file.imports:
            try:
                imports.append((statement, self._import(statement, folder, chain)))
            except CnnError as error:
                diagnostics.extend(d for d in error.diagnostics if d not in diagnostics)
        if diagnostics:
            raise CnnError(diagnostics)
        return imports

    def _import(self, statement: syntax.Import, folder: Path | None, chain: tuple[Path, ...]) -> CompilationUnit:
        span = statement.span
        if folder is None:
            raise CnnError.of("import", "a spec that is not in a file cannot import", span)
        path = (folder / statement.path).resolve()
        shown = statement.path
        if path in chain:
            cycle = " -> ".join(p.name for p in (*chain[chain.index(path) :], path))
            raise CnnError.of("import", f"`{shown}` imports itself: {cycle}", span)
        if len(chain) >= DEEPEST_IMPORTS:
            raise CnnError.of("limit", f"imports nest more than {DEEPEST_IMPORTS} deep", span)
        if path not in self.done:
            if len(self.done) >= MOST_FILES:
                raise CnnError.of("limit", f"more than {MOST_FILES} files are imported", span)
            text = _read(path, statement)
            name = str(folder / statement.path)
            loaded = self.load(Source(name, text), (folder / statement.path).parent, (*chain, path))
            if loaded.file.models and loaded.file.models[0].name is None:
                message = f"`{shown}` has layers outside of a block; an import brings blocks only"
                raise CnnError.of("import", message, span)
            self.done[path] = loaded
        return self.done[path]


def _read(path: Path, statement: syntax.Import) -> str:
    shown, span = statement.path, statement.span
    if path.suffix != ".cnn":
        raise CnnError.of("import", f"`{shown}` is not a .cnn file", span)
    if not path.is_file():
        help = None
        if path.parent.is_dir():
            help = did_you_mean(path.name, [p.name for p in path.parent.glob("*.cnn")])
        raise CnnError.of("import", f"there is no file `{shown}`", span, help=help)
    try:
        return read_text(path)
    except UnicodeDecodeError:
        raise CnnError.of("import", f"`{shown}` is not UTF-8 text", span) from None
    except OSError as error:
        raise CnnError.of("import", f"`{shown}` cannot be read: {reason_of(error)}", span) from None


def read_text(path: Path) -> str:
    """The text of a file, as much of it as is ever parsed. Raises UnicodeDecodeError, OSError."""
    with path.open(encoding="utf-8-sig") as file:
        return file.read(LONGEST_FILE + 1)
