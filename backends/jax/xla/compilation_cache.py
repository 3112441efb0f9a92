"""Compiled programs kept between runs: JAX's persistent compilation cache, in the user's cache folder.

A second start with the same network, batch and settings reads its programs instead of compiling them. They are machine
code and run unchecked, so the folder is the user's alone, and each kind of processor has its own.
"""

from __future__ import annotations

import os
import platform
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jax
from filelock import FileLock

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

SWITCH: Final = "CNNC_CACHE"

_MOST_BYTES = 2**30
_LEAST_SECONDS = 0.2
"""Programs that compile faster are not kept: reading takes time, too."""

_PATIENCE_SECONDS = 10
"""JAX's own, for the lock that it takes to read or write."""


def enable() -> str | None:
    """Keep what is compiled from now on, and read what is kept. What stands in the way is returned, for the user.

    Nothing changes where JAX's cache is set up or forbidden already, or with `CNNC_CACHE=off`.

    Raises:
        CnnError: another value of `CNNC_CACHE`.
    """
    wish = os.environ.get(SWITCH, "on")
    if wish not in ("on", "off"):
        raise CnnError.of("run", f"`{SWITCH}` is `on` or `off`, found `{wish}`", help=f"export {SWITCH}=off")
    config: Any = jax.config
    if wish == "off" or not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir:
        return None
    folder = user_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _mend(folder)
    except OSError as error:
        return f"compiled programs are not kept: cannot write `{folder}`: {reason_of(error)}"
    config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    config.update("jax_compilation_cache_dir", str(folder))
    return None


def user_folder() -> Path:
    """Where the programs for this machine's kind of processor lie."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "cnnc" / "xla" / sha256(_processor().encode()).hexdigest()[:12]


def _mend(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote, or a machine that lost its power.

    JAX writes a program, then when it was last used. It reads a program that was cut off again in every run, to no
    avail, and deletes no program at all as long as there is one without its time.
    """
    with FileLock(folder / ".lockfile", timeout=_PATIENCE_SECONDS):
        programs = {path.name.removesuffix("-cache"): path for path in folder.glob("*-cache")}
        times = {path.name.removesuffix("-atime"): path for path in folder.glob("*-atime")}
        for name, path in programs.items():
            if name not in times or path.stat().st_size == 0:
                path.unlink()
        for name, path in times.items():
            if not (folder / f"{name}-cache").exists():
                path.unlink()


def _processor() -> str:
    """The processor that machine code depends on; of unknown processors each machine counts as another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    return " ".join([platform.machine(), *(told.get(name, "") for name in wanted)])
