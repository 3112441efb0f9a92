"""Published files by name: from a local folder if it has them, otherwise downloaded once and kept in a cache.

The cache is the platform's, or the folder that the environment variable `CNNC_DATA` names; each data set has a
folder of its own in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cnnc.diagnostics import CnnError

Report = Callable[[str], None]


@dataclass(frozen=True)
class Remote:
    """A published file: its name, its address and the MD5 sum that its publisher gives."""

    name: str
    url: str
    md5: str


def cache_folder() -> Path:
    """Where downloads are kept."""
    if folder := os.environ.get("CNNC_DATA"):
        return Path(folder).expanduser()
    return Path(_pooch().os_cache("cnnc"))


def fetch(dataset: str, files: Sequence[Remote], report: Report) -> list[Path]:
    """The files' paths in the cache, downloaded and checked against their sums if they are not there yet."""
    folder = cache_folder() / dataset
    return [folder / file.name if (folder / file.name).is_file() else _download(file, folder, report) for file in files]


def _pooch() -> ModuleType:
    """Imported when something is fetched: data in a folder needs it not."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            f"a data set by name needs the package `{error.name}`, which is not installed",
            help='pip install "cnnc[train]", or pass the files\' folder as `--data-dir`',
        ) from error
    module: ModuleType = pooch
    return module


def _download(file: Remote, folder: Path, report: Report) -> Path:
    pooch = _pooch()
    import requests

    report(f"downloading {file.url} to {folder}")
    # It says on its own what `report` has said already.
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        path = pooch.retrieve(
            file.url,
            known_hash=f"md5:{file.md5}",
            fname=file.name,
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        # A ValueError is a sum that differs: pooch has removed the file by then.
        wrong = isinstance(error, ValueError) and not isinstance(error, requests.exceptions.RequestException)
        reason = "what came is not the published file: its MD5 sum differs" if wrong else _cause(error)
        raise CnnError.of(
            "data",
            f"cannot download `{file.url}`: {reason}",
            help=f"put the file `{file.name}` into a folder yourself and pass it as `--data-dir FOLDER`,"
            " or use `--data digits`, which needs no network",
        ) from error
    return Path(path)


def _cause(error: BaseException) -> str:
    """The innermost reason of a chain of wrapped network errors, in a line."""
    name = type(error).__name__
    if "Timeout" in name:
        return "the server did not answer in time"
    if "ConnectionError" in name:
        return "the server cannot be reached"
    return " ".join(str(error).split())[:200]
