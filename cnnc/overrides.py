"""Overrides of a spec: a variant, scaling, other inputs, other arguments of the model."""

from __future__ import annotations

from cnnc.frozen import dataclass


@dataclass(frozen=True)
class Overrides:
    """The command line's `--variant`, `--phi`, ... as values; None where an option is not given.

    `input` pairs an input's name, None for a model's only one, with its dims. `settings` pairs a name with a value as
    written: the expander, which knows the parameter's type, reads it.
    """

    variant: str | None = None
    phi: float | None = None
    width: float | None = None
    depth: float | None = None
    resolution: float | None = None
    input: tuple[tuple[str | None, tuple[int, ...]], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def keep_the_model(self) -> bool:
        """Whether the model stays the spec's own, or its variant's: nothing else is asked for."""
        return self == Overrides(variant=self.variant)
