"""Which blocks a file sees: its own, those it imports, the prelude's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from cnnc import syntax
from cnnc.diagnostics import CnnError, Label, Source, did_you_mean
from cnnc.parser import parse

PRELUDE = "<prelude>"
DEEPEST_IMPORTS = 32


@dataclass(frozen=True)
class BlockIn:
    """A block and the namespace that its body sees."""

    definition: syntax.Block
    namespace: Namespace = field(repr=False)


@dataclass
class Namespace:
    """The blocks of a file by name; what it does not have is looked for in `outer`."""

    blocks: dict[str, BlockIn]
    outer: Namespace | None = None

    def find(self, name: str) -> BlockIn | None:
        """The block of a name."""
        found = self.blocks.get(name)
        return found if found or self.outer is None else self.outer.find(name)

    def names(self) -> set[str]:
        """The names of all blocks that are seen."""
        return set(self.blocks) | (self.outer.names() if self.outer else set())


@cache
def prelude() -> Namespace:
    """The blocks of grammar/prelude.cnn."""
    text = files("cnnc.grammar").joinpath("prelude.cnn").read_text(encoding="utf-8")
    namespace = Namespace({})
    for block in parse(Source(PRELUDE, text)).blocks:
        namespace.blocks[block.name.text] = BlockIn(block, namespace)
    return namespace


@dataclass(frozen=True)
class Loaded:
    """A file, its namespace, and all sources that it was made of, itself first."""

    file: syntax.File
    namespace: Namespace
    sources: tuple[Source, ...]
    files: tuple[syntax.File, ...] = ()


def load(source: Source, folder: Path | None) -> Loaded:
    """A source parsed, with what it imports from `folder` on. Without a folder nothing can be imported.

    Raises:
        CnnError: of the parser's codes, `import` or `duplicate`.
    """
    return _Loader().load(source, folder, ())


class _Loader:
    """Reads every file once; knows which are being read, for cycles."""

    def __init__(self) -> None:
        self.done: dict[Path, Loaded] = {}

    def load(self, source: Source, folder: Path | None, chain: tuple[Path, ...]) -> Loaded:
        file = parse(source)
        namespace = Namespace({}, prelude())
        sources = [source]
        all_files = [file]
        for statement in file.imports:
            imported = self._import(statement, folder, chain)
            for name, block in imported.namespace.blocks.items():
                present = namespace.blocks.get(name)
                if present is not None and present.definition is not block.definition:
                    message = f"two imports define the block `{name}`"
                    first = Label(present.definition.name.span, "one here")
                    second = Label(block.definition.name.span, "another here")
                    raise CnnError.of("duplicate", message, statement.span, secondary=[first, second])
                namespace.blocks[name] = block
            sources.extend(s for s in imported.sources if s not in sources)
            all_files.extend(f for f in imported.files if f not in all_files)
        for definition in file.blocks:
            name = definition.name.text
            present = namespace.blocks.get(name)
            if present is not None:
                first = Label(present.definition.name.span, "first here")
                message = f"the block `{name}` is defined twice"
                raise CnnError.of("duplicate", message, definition.name.span, secondary=[first])
            namespace.blocks[name] = BlockIn(definition, namespace)
        return Loaded(file, namespace, tuple(sources), tuple(all_files))

    def _import(self, statement: syntax.Import, folder: Path | None, chain: tuple[Path, ...]) -> Loaded:
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
            text = _read(path, statement)
            name = str(folder / statement.path)
            loaded = self.load(Source(name, text), path.parent, (*chain, path))
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
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CnnError.of("import", f"`{shown}` is not UTF-8 text", span) from None
    except OSError as error:
        raise CnnError.of("import", f"`{shown}` cannot be read: {error.strerror}", span) from None
