"""HDF5 files opened for their own bytes alone: what lies in other files is refused, and sizes are checked first.

The format lets a data set lie outside its file, in raw bytes or in other HDF5 files, and lets links lead there
(https://docs.hdfgroup.org/documentation/hdf5/latest/_h5_d__u_g.html): to open such a file is to read any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.layers.file_errors import fault
from cnnc.weights.importing.readers.sizes import require_size

_MOST_OBJECTS: Final = 200_000
_MOST_DEPTH: Final = 64


@contextmanager
def open_hdf5(path: Path, file: Any, most: int) -> Iterator[Any]:
    """An HDF5 file whose data sets all lie within it.

    Args:
        path: what to call it.
        file: its path, or its bytes as a file.
        most: so many bytes its data sets may have together.

    Raises:
        CnnError: it refers to other files, goes round in circles, or says that it holds more; `install` without h5py.
    """
    try:
        import h5py  # type: ignore[import-untyped]  # ships no types
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            "reading Keras's files needs the package `h5py`, which is not installed",
            help='pip install "cnnc[weights]"',
        ) from error
    with h5py.File(file, "r") as opened:
        # Soft links are followed once nothing that they could lead to lies elsewhere.
        _size(path, h5py, opened, is_soft_followed=False)
        require_size(path, _size(path, h5py, opened, is_soft_followed=True), most)
        yield opened


def _size(path: Path, h5py: Any, file: Any, *, is_soft_followed: bool) -> int:
    """Bytes of all data sets, as often as a walk through the links meets them."""
    total = count = 0
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(file, (_address(h5py, file),))]
    while waiting:
        group, above = waiting.pop()
        for name in group:
            count += 1
            if count > _MOST_OBJECTS:
                raise fault(path, f"it has more than {_MOST_OBJECTS:,} groups and arrays")
            place = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _elsewhere(path, place, link.filename)
            if isinstance(link, h5py.SoftLink) and not is_soft_followed:
                continue
            inner = group.get(name)  # None for a link to nothing
            if isinstance(inner, h5py.Dataset):
                if inner.external:
                    raise _elsewhere(path, place, inner.external[0][0])
                if inner.is_virtual:
                    raise _elsewhere(path, place, "parts of other data sets")
                total += inner.nbytes if inner.shape is not None else 0
            elif isinstance(inner, h5py.Group):
                address = _address(h5py, inner)
                if address in above or len(above) > _MOST_DEPTH:
                    raise fault(path, f"its group `{place}` lies within itself, or too deep")
                waiting.append((inner, (*above, address)))
    return total


def _address(h5py: Any, group: Any) -> Any:
    return h5py.h5o.get_info(group.id).addr


def _elsewhere(path: Path, place: str, where: str) -> CnnError:
    return fault(
        path,
        f"`{place}` lies outside the file, in `{where}`, which was not read",
        help="save the weights again, all in one file",
    )
