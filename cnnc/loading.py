"""A spec, by path or bundled name, to a checked network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from cnnc import specs
from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Label, Source, Span, did_you_mean
from cnnc.elaboration import budget, namespace
from cnnc.elaboration.arithmetic import write_value
from cnnc.elaboration.elaborate import build, check_rules, find_variant
from cnnc.elaboration.name_check import check_names
from cnnc.elaboration.namespace import CompilationUnit
from cnnc.language import parse, syntax
from cnnc.net import Net
from cnnc.overrides import Overrides
from cnnc.wording import reason_of

MOST_LAYERS = 100_000
"""Of all variants together."""


@dataclass(frozen=True)
class Spec:
    """A spec found: its source, the folder that its imports start from, and the variant that its name implied."""

    source: Source
    folder: Path | None
    stem: str
    variant: str | None = None


def load(
    spec: str | PathLike[str],
    *,
    variant: str | None = None,
    phi: float | None = None,
    width: float | None = None,
    depth: float | None = None,
    resolution: float | None = None,
    input: tuple[int, ...] | dict[str, tuple[int, ...]] | None = None,
    **settings: object,
) -> Net:
    """The network of a spec: `cnnc.load("resnet50", width=0.5, classes=10)`.

    Args:
        spec: the path of a .cnn file, or a bundled name with or without its variant (`resnet`, `resnet50`).
        variant: one of the spec's variants.
        phi: the coefficient of the spec's `scale` rule; Tan & Le 2019, equation 3, where it has none.
        width: factor on channels.
        depth: factor on repeats.
        resolution: factor on the input's spatial size.
        input: another input, `(height, width, channels)` without the batch; a dict by name for several.
        **settings: values for the model's parameters: numbers, truth values, lists, or text in the language.

    Raises:
        CnnError: everything that is wrong with the spec or with what is asked for.
    """
    inputs: tuple[tuple[str | None, tuple[int, ...]], ...] = ()
    if isinstance(input, dict):
        inputs = tuple((name, tuple(dims)) for name, dims in input.items())
    elif input is not None:
        inputs = ((None, tuple(input)),)
    texts = tuple((name, _text(value)) for name, value in settings.items())
    return load_spec(find(spec), Overrides(variant, phi, width, depth, resolution, inputs, texts))


def load_text(text: str, name: str = "<string>", overrides: Overrides | None = None) -> Net:
    """The network of a spec's text. It can import nothing; the prelude is there."""
    return load_spec(Spec(Source(name, text), None, Path(name).stem.strip("<>")), overrides or Overrides())


def load_spec(spec: Spec, overrides: Overrides) -> Net:
    """The network of a spec that was found. Raises CnnError with all diagnostics."""
    net, diagnostics = examine(spec, overrides)
    if net is None:
        raise CnnError(diagnostics)
    return net


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        value = list(value)
    return write_value(value)


def find(spec: str | PathLike[str]) -> Spec:
    """The spec of a path or a bundled name. Raises CnnError("spec") when there is none or it cannot be read."""
    text = fspath(spec)
    path = Path(text)
    if path.suffix == ".cnn" or path.is_file():
        return Spec(Source(text, _read(path)), path.parent, path.stem)
    names = specs.names()
    if text in names:
        return _bundled(text, None)
    for name in sorted((n for n in names if text.startswith(n)), key=len, reverse=True):
        variant = text[len(name) :].lstrip("_-")
        variants = [v.name.text for v in parse(_bundled(name, None).source).variants]
        if variant in variants:
            return _bundled(name, variant)
        if path.is_dir():
            break
        help = did_you_mean(variant, variants) or f"the variants of `{name}` are {', '.join(variants)}"
        raise CnnError.of("spec", f"`{name}` has no variant `{variant}`", help=help if variants else None)
    if path.is_dir():
        raise _is_a_folder(path)
    what = f"there is no folder or file `{text}`" if path.parent != Path() else f"no bundled spec is named `{text}`"
    help = did_you_mean(text, names) or "cnnc list shows the bundled specs; a file's name ends in .cnn"
    raise CnnError.of("spec", what, help=help)


def _bundled(name: str, variant: str | None) -> Spec:
    return Spec(Source(f"{name}.cnn", specs.read(name)), None, name, variant)


def _is_a_folder(path: Path) -> CnnError:
    own = path / "spec.cnn"  # a run's
    help = f"name the spec in it: {own}" if own.is_file() else "name a .cnn file in it"
    return CnnError.of("spec", f"`{path}` is a folder, and a spec is wanted", help=help)


def _read(path: Path) -> str:
    if path.is_dir():
        raise _is_a_folder(path)
    try:
        return namespace.read_text(path)
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.cnn")] if path.parent.is_dir() else []
        raise CnnError.of("spec", f"there is no file `{path}`", help=did_you_mean(path.name, near)) from None
    except UnicodeDecodeError as error:
        raise CnnError.of(
            "spec", f"`{path}` is not UTF-8 text: byte {error.start} of it", help="is it a spec?"
        ) from None
    except OSError as error:
        raise CnnError.of("spec", f"`{path}` cannot be read: {reason_of(error)}") from None


def examine(spec: Spec, overrides: Overrides, *, budgets: bool = False) -> tuple[Net | None, list[Diagnostic]]:
    """The network, None where an error leaves none, and every diagnostic; with `budgets`, of `expect` lines, too.

    With `budgets` and no flags, every variant is examined as well.
    """
    found = _Found()
    try:
        unit = namespace.load(spec.source, spec.folder)
        found.add(list(unit.duplicates))
        found.add(check_names(unit))
        model = _model(unit.file)
        if spec.variant is not None:
            if overrides.variant not in (None, spec.variant):
                message = f"the name asks for variant `{spec.variant}`, --variant for `{overrides.variant}`"
                raise CnnError.of("spec", message)
            overrides = replace(overrides, variant=spec.variant)
        if overrides.variant is not None:
            find_variant(unit.file, overrides.variant)
    except CnnError as error:
        found.add(list(error.diagnostics))
        return None, found.listed()
    found.add(_check_variants(unit.file))
    found.add(check_rules(unit.file))
    found.add(list(budget.unusable(unit.file.expects, tuple(v.name.text for v in unit.file.variants))))
    net = _examine_one(spec, unit, model, overrides, found, budgets=budgets)
    if budgets and net is not None and overrides == Overrides():
        layers = len(net.graph)
        for variant in unit.file.variants:
            if layers > MOST_LAYERS:
                message = f"the variants before have {layers:,} layers in all; at most {MOST_LAYERS:,} are checked"
                help = f"check one: --variant {variant.name.text}"
                found.add(list(CnnError.of("limit", message, variant.name.span, help=help).diagnostics))
                break
            asked = Overrides(variant=variant.name.text)
            one = _examine_one(spec, unit, model, asked, found, budgets=True, variant=variant)
            layers += len(one.graph) + 100 if one else 100
    return (None if found.diagnostics else net), found.listed()


def _examine_one(
    spec: Spec,
    unit: CompilationUnit,
    model: syntax.Model,
    overrides: Overrides,
    found: _Found,
    *,
    budgets: bool,
    variant: syntax.Variant | None = None,
) -> Net | None:
    name = _name(model.name.text if model.name else spec.stem, overrides.variant)
    graph, recipe, diagnostics = build(unit, model, name, overrides)
    found.add(diagnostics if variant is None else [_noted(d, variant) for d in diagnostics])
    if graph is None:
        return None
    if budgets:
        exact = overrides.keep_the_model
        found.add(budget.violations(unit.file.expects, overrides.variant, graph, exact=exact))
    return Net(graph, recipe, flattened(unit), overrides)


def _noted(diagnostic: Diagnostic, variant: syntax.Variant) -> Diagnostic:
    """The diagnostic with the variant that it arises in, unless it stands there."""
    span = diagnostic.primary.span if diagnostic.primary else None
    if span is not None and span.source is variant.span.source and variant.span.start <= span.start < variant.span.end:
        return diagnostic
    return replace(diagnostic, notes=(*diagnostic.notes, f"in the variant `{variant.name.text}`"))


class _Found:
    """Diagnostics, each fault once: the first that is said of a place."""

    def __init__(self) -> None:
        self.diagnostics: dict[tuple[object, ...], Diagnostic] = {}

    def add(self, diagnostics: list[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            span = diagnostic.primary.span if diagnostic.primary else None
            key = (span.source.name, span.start, diagnostic.code) if span else (diagnostic.code, diagnostic.message)
            self.diagnostics.setdefault(key, diagnostic)

    def listed(self) -> list[Diagnostic]:
        """In the order of the text, those without a place last."""

        def order(diagnostic: Diagnostic) -> tuple[bool, str, int]:
            span = diagnostic.primary.span if diagnostic.primary else None
            return (False, span.source.name, span.start) if span else (True, "", 0)

        return sorted(self.diagnostics.values(), key=order)[:MOST_REPORTED]


def _model(file: syntax.File) -> syntax.Model:
    """The file's one model. Raises CnnError where there is none, or more of what there can be one of."""
    for many, noun in ((file.models, "model"), (file.trains, "train section"), (file.scales, "scale rule")):
        if len(many) > 1:
            first, second = (_head(definition) for definition in many[:2])
            if isinstance(many[0], syntax.Model) and many[0].name is None:
                message, label = "a file is either a model or bare layers, but this is both", Label(second, "the model")
                raise CnnError.of("duplicate", message, first, secondary=[label])
            message = f"a file holds one {noun}, but this is the second"
            raise CnnError.of("duplicate", message, second, secondary=[Label(first, "the first")])
    if not file.models:
        message = "the file describes no model" + (", only blocks" if file.blocks else "")
        help = "model mine { input 32x32x3 ... }, or just its layers"
        raise CnnError.of("syntax", message, Span(file.source, 0, 0), help=help)
    return file.models[0]


def _head(definition: syntax.Model | syntax.Train | syntax.Scale) -> Span:
    """The words that a definition starts with: `model mine`, `train`, the first line of bare layers."""
    span = definition.span
    end = next((span.start + i for i, c in enumerate(span.text) if c in "({\n"), span.end)
    return Span(span.source, span.start, span.start + len(span.source.text[span.start : end].rstrip()))


def _check_variants(file: syntax.File) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    seen: dict[str, syntax.Name] = {}
    for variant in file.variants:
        name = variant.name
        if name.text in seen:
            first = Label(seen[name.text].span, "first here")
            message = f"the variant `{name.text}` is defined twice"
            found.extend(CnnError.of("duplicate", message, name.span, secondary=[first]).diagnostics)
        seen.setdefault(name.text, name)
    return found


def _name(model: str, variant: str | None) -> str:
    """`resnet50`, `efficientnet_b0`."""
    if variant is None:
        return model
    return f"{model}{variant}" if variant[0].isdigit() and not model[-1].isdigit() else f"{model}_{variant}"


def flattened(unit: CompilationUnit) -> str:
    """The spec's text with what it imports written out, so that it can be read without the other files."""
    source = unit.file.source
    if not unit.file.imports:
        return source.text
    text = source.text
    for statement in reversed(unit.file.imports):
        text = text[: statement.span.start] + text[statement.span.end :]
    parts = [block.span.text for file, _ in unit.files[1:] for block in file.blocks]
    return "\n\n".join([text.strip("\n"), *parts]) + "\n"
