"""MNIST and Fashion-MNIST in their own IDX format (LeCun, Cortes & Burges 1998), gzipped or plain."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc.data.sources.data_set import DataSet, Examples
from cnnc.data.sources.download import Remote, Report, cache_folder, fetch
from cnnc.diagnostics import CnnError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_SUMS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
_CLASSES = {
    "mnist": tuple(map(str, range(10))),
    "fashion_mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}

_MOST_BYTES = 1 << 28
"""Of a file, unpacked; MNIST's training pictures are 47 million."""


def load_idx(name: str, folder: Path | None, report: Report) -> DataSet:
    """`mnist` or `fashion_mnist` from a local folder, or from the cache, which is filled if it is empty."""
    paths = find_idx(folder, name) if folder is not None else find_idx(cache_folder(), name, required=False)
    if paths is None:
        base, *sums = _SUMS[name]
        remotes = [Remote(f"{file}.gz", f"{base}{file}.gz", md5) for file, md5 in zip(NAMES, sums, strict=True)]
        paths = fetch(name, remotes, report)
    train, test = (_part(*paths[start : start + 2]) for start in (0, 2))
    return DataSet(name, train, test, test, _CLASSES[name], ("the test pictures serve as validation set too",))


def find_idx(folder: Path, name: str, *, required: bool = True) -> list[Path] | None:
    """The four files in a folder, in `<name>/` in it, or where torchvision puts them; None when they are not wanted."""
    if required and not folder.is_dir():
        raise CnnError.of("data", f"there is no folder `{folder}`")
    places = [folder, folder / name, folder / "MNIST" / "raw", folder / "FashionMNIST" / "raw"]
    for place in places if required else places[1:2]:
        found = [_variant(place, file) for file in NAMES]
        if all(path is not None for path in found):
            return [path for path in found if path is not None]
        if required and any(path is not None for path in found):
            missing = [file for file, path in zip(NAMES, found, strict=True) if path is None]
            raise CnnError.of("data", f"`{place}` lacks `{missing[0]}` (or `{missing[0]}.gz`)")
    if required:
        raise CnnError.of(
            "data", f"`{folder}` holds no IDX files of {name}", help=f"it should hold {', '.join(NAMES)}, plain or .gz"
        )
    return None


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file."""
    try:
        with path.open("rb") as file:
            is_zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_zipped else path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CnnError.of("data", f"cannot read `{path}`: {str(error).lower()}", help="copy the file again") from error
    if len(raw) > _MOST_BYTES:
        raise CnnError.of("data", f"`{path}` holds more than {_MOST_BYTES:,} bytes, and no file of MNIST does")
    rank = raw[3] if len(raw) >= 4 else 0
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * rank:
        raise CnnError.of("data", f"`{path}` is no IDX file of bytes", help="it should start with the bytes 00 00 08")
    shape = tuple(np.frombuffer(raw, ">u4", rank, 4).tolist())
    body = len(raw) - 4 - 4 * rank
    wanted = int(np.prod(shape, dtype=object))
    if body != wanted:
        size = "x".join(map(str, shape))
        raise CnnError.of(
            "data",
            f"`{path}` announces {size} bytes, which are {wanted:,}, but holds {body:,}",
            help="copy the file again: it is cut short" if body < wanted else None,
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _variant(folder: Path, file: str) -> Path | None:
    plain = (file, file.replace("-idx", ".idx"))
    return next((p for stem in plain for end in ("", ".gz") if (p := folder / f"{stem}{end}").is_file()), None)


def _part(pictures_path: Path, labels_path: Path) -> Examples:
    pictures, labels = read_idx(pictures_path), read_idx(labels_path)
    if pictures.ndim != 3 or labels.ndim != 1 or len(pictures) != len(labels) or not len(labels):
        raise CnnError.of(
            "data",
            f"`{pictures_path}` and `{labels_path.name}` hold arrays of shapes {pictures.shape} and {labels.shape}",
            help="as many labels as pictures are wanted",
        )
    if labels.max() > 9:
        raise CnnError.of("data", f"`{labels_path}` has a label {labels.max()}, and labels go from 0 to 9")
    return Examples((pictures[..., None],), (labels.astype(np.int32),))
