"""Compilation that keeps XLA's CPU backend fast: `jit`, and the compiler options it passes.

By default jaxlib 0.10 and 0.11 hand convolutions to YNNPACK on x86, which makes a convolution network's backward pass
two to three times slower and can crash or hang (jax-ml/jax#37465, #39257, #40412). Kept for reductions only, YNNPACK
helps: they are the cost of batch norm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax

YNN_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_WISHES = ("LIBRARY_FUSION_TYPE_REDUCE", "")  # reductions only, or else not at all


def jit(
    function: Callable[..., Any], *, static_argnames: Sequence[str] = (), donate_argnums: Sequence[int] = ()
) -> Callable[..., Any]:
    """`jax.jit` with this machine's compiler options. For outermost functions: jax refuses options on inner ones."""
    return jax.jit(
        function,
        static_argnames=tuple(static_argnames),
        donate_argnums=tuple(donate_argnums),
        compiler_options=dict(options()),
    )


def options() -> Mapping[str, str]:
    """Compiler options for the default device: none off the CPU, where jaxlib lacks them, or where the user chose."""
    if jax.default_backend() != "cpu" or YNN_OPTION in user_flags(os.environ.get("XLA_FLAGS", "")):
        return {}
    for value in _WISHES:
        if is_known(YNN_OPTION, value):
            return {YNN_OPTION: value}
    return {}


def steps_ahead() -> int:
    """Steps that may be under way before the host looks at the first of them, so that no device waits for it.

    On a CPU one more is enough: they have the same cores, and each that is under way holds its memory.
    """
    return 1 if jax.default_backend() == "cpu" else 8


def user_flags(text: str) -> Mapping[str, str]:
    """The flags of an `XLA_FLAGS` value by name; one that starts with no dash names a file of flags, as to XLA."""
    if text and not text.lstrip().startswith("-"):
        path = Path(text)
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    flags = (word.lstrip("-").partition("=") for word in text.split() if word.startswith("-"))
    return {name: value for name, _, value in flags}


@cache
def is_known(option: str, value: str) -> bool:
    """Whether this jaxlib compiles with the option at that value. Found by compiling an identity: 20 ms, once."""
    try:
        jax.jit(lambda x: x, compiler_options={option: value}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" in str(error):  # no such option, or no such value
            return False
        raise
    return True
