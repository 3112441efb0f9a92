"""An inspection as files: a page, and a picture for each layer beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cnnc import files
from cnnc.activations.inspection import Inspection
from cnnc.activations.page import is_ours, page
from cnnc.activations.picture_sheet import sheet
from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

PAGE: Final = "index.html"
_LONGEST: Final = 80
"""Characters of a layer's name in the name of its file."""


@dataclass(frozen=True)
class InspectionFiles:
    """The page and the layers' pictures in order; `leftovers` are those of an earlier inspection of other layers."""

    page: Path
    pictures: tuple[Path, ...]
    leftovers: tuple[Path, ...]


def require_folder(folder: Path) -> None:
    """Assure that a folder can be written to: a new or empty one, or one that holds an earlier inspection.

    Raises:
        CnnError: it is a file, has other things in it, or lies in a folder that is not there.
    """
    files.require_folder(folder)
    if folder.is_dir():
        index = folder / PAGE
        names = sorted(path.name for path in folder.iterdir())
        if names and not (index.is_file() and is_ours(index.read_text(encoding="utf-8", errors="replace"))):
            raise CnnError.of(
                "run",
                f"`{folder}` has other things in it, such as `{names[0]}`",
                help="name a new or empty folder, or one that this command has written to before",
            )
    elif not folder.absolute().parent.is_dir():
        raise CnnError.of("run", f"cannot make `{folder}`: there is no folder `{folder.absolute().parent}`")


def write_inspection(inspection: Inspection, folder: Path) -> InspectionFiles:
    """Write `index.html` and a PNG for each layer, numbered in the network's order. Nothing is deleted.

    Raises:
        CnnError: as `require_folder`, or the disk refuses.
    """
    require_folder(folder)
    earlier = set(folder.glob("[0-9]*_*.png")) if folder.is_dir() else set()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CnnError.of("run", f"cannot make `{folder}`: {reason_of(error)}") from error
    pictures = []
    digits = len(str(len(inspection.layers)))
    for place, view in enumerate(inspection.layers, 1):
        path = folder / f"{place:0{digits}}_{_safe(view.layer.title)}.png"
        files.write_atomically(path, sheet(inspection, view))
        pictures.append(path)
    files.write_atomically(folder / PAGE, page(inspection))
    return InspectionFiles(folder / PAGE, tuple(pictures), tuple(sorted(earlier - set(pictures))))


def _safe(title: str) -> str:
    """A layer's name as a file's."""
    return re.sub(r"[^\w.-]+", "_", title)[-_LONGEST:]
