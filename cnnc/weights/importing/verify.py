"""An imported network beside the one that its weights come from: the same pictures, and how far outputs differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.net import Net, Weights
from cnnc.ops import Bgr, Normalize, Softmax
from cnnc.ops.preprocessing import PRESETS
from cnnc.ops.signature import Floats
from cnnc.weights.importing.runnable import Program, open_program

Preparation = Literal["network", "pixels", "unit", "symmetric", "imagenet", "caffe"]
"""The input of the source for a picture: the output of the network's own first lines, its pixels, or a preset's."""
_SHOWN: Final = 5
_LEAST: Final = 1e-6
"""The least that is left of a probability of 1 when that of a class goes."""
_MOST_APART: Final = 1e-3
"""How far outputs of two float programs may be apart, as a part of their range: rounding alone is far below it."""
_MOST_APART_QUANTIZED: Final = 0.35
_LEAST_CORRELATION: Final = 0.95
"""Of a program of 8 bits: Google's MobileNetV2 is 0.17 and 0.994 from its own weights in float on some pictures."""


@dataclass(frozen=True)
class Compared:
    """A picture through both networks.

    Attributes:
        picture: its name.
        source: the likeliest class of the source, 0-based, counted without the class that was dropped.
        target: that of the imported network.
        difference: the largest between their outputs, as a part of the range of the source's.
        correlation: of the two outputs; 1 when they rise and fall together, or both are constant. 0 where one is.
    """

    picture: str
    source: int
    target: int
    difference: float
    correlation: float


@dataclass(frozen=True)
class Verified:
    """The result of a comparison.

    Attributes:
        ran: what ran the source.
        takes: what the source was given, in words.
        quantized: whether the source computes in 8 bits, so that correlation says more than differences.
        pictures: each picture.
    """

    ran: str
    takes: str
    quantized: bool
    pictures: tuple[Compared, ...]

    @property
    def agreeing(self) -> int:
        """Pictures on whose likeliest class both agree."""
        return sum(each.source == each.target for each in self.pictures)

    @property
    def difference(self) -> float:
        """The largest of all pictures."""
        return max(each.difference for each in self.pictures)

    @property
    def correlation(self) -> float:
        """The smallest of all pictures."""
        return min(each.correlation for each in self.pictures)


def require_agreement(verified: Verified) -> None:
    """Raises CnnError, naming the pictures, when outputs are further apart than arithmetic can have them."""
    most = _MOST_APART_QUANTIZED if verified.quantized else _MOST_APART
    least = _LEAST_CORRELATION if verified.quantized else -1.0
    wrong = [each for each in verified.pictures if not (each.difference <= most and each.correlation >= least)]
    if not wrong:
        return
    bound = f"{most:g} of it" + (f" and a correlation of {least:g} are" if verified.quantized else " is")
    raise CnnError.of(
        "weights",
        f"the network with these weights computes otherwise than {verified.ran}; nothing was written",
        notes=[
            *(
                f"`{each.picture}`: outputs differ by {each.difference:.1e} of their range, correlation"
                f" {each.correlation:.4f}"
                for each in wrong[:_SHOWN]
            ),
            f"{len(wrong)} of {len(verified.pictures)} pictures; {bound} the bound",
            f"it was given {verified.takes}",
        ],
        help="compare strides, padding, activations and epsilons of the two; or say what the file's network takes:"
        " --verify-input",
    )


def verify(
    net: Net,
    weights: Weights,
    path: Path,
    pictures: Mapping[str, NDArray[np.uint8]],
    *,
    drop_class: int | None = None,
    preparation: Preparation | None = None,
    program: Path | None = None,
) -> Verified:
    """Run the source and the imported network on pictures.

    Args:
        net: the network that weights were imported into.
        weights: what was imported.
        path: the file that they come from.
        pictures: by name `(height, width, channels)`, as large as the network takes them.
        drop_class: a class of the source that the network does not have, 0-based.
        preparation: what the source takes; None for what it says itself, or else as `network`.
        program: a file that can be run, of the same network, for a source that holds weights alone.

    Raises:
        CnnError: the source cannot be run, or gives another number of values than the network.
    """
    assert pictures
    source = open_program(program if program is not None else path)
    pixels = np.stack(list(pictures.values()))
    takes = preparation or ("pixels" if source.takes == "pixels" else "network")
    theirs = _of_source(source, _prepared(net, pixels, takes), drop_class, program or path)
    ours = _of_network(net, weights, pixels, is_shares=_are_shares(theirs))
    if ours.shape != theirs.shape:
        found, wanted = theirs.shape[1], ours.shape[1]
        raise CnnError.of(
            "weights",
            f"`{program or path}` gives {found} values for a picture, and `{net.name}` gives {wanted}",
            help="a class that the network does not have is left out with `--drop-class 0`" if found > wanted else None,
        )
    compared = (_compared(*each) for each in zip(pictures, theirs, ours, strict=True))
    return Verified(source.name, _WORDS[takes], source.quantized, tuple(compared))


_WORDS: Final[Mapping[str, str]] = {
    "network": "what the network's own first lines make of the pixels",
    "pixels": "pixels of 0 to 255",
    "unit": "pixels brought to 0 up to 1",
    "symmetric": "pixels brought to -1 up to 1",
    "imagenet": "pixels normalised as for ImageNet",
    "caffe": "blue, green and red less their means",
}


def _prepared(net: Net, pixels: NDArray[np.uint8], takes: Preparation) -> NDArray[Any]:
    if takes == "pixels":
        return pixels
    values = pixels.astype(np.float32)
    if takes != "network":
        if takes == "caffe":
            values = values[..., ::-1]
        mean, std = PRESETS[takes]
        return _normalized(values, mean, std)
    (node, *others) = net.graph.inputs
    assert not others, net.name
    while True:
        readers = net.graph.consumers[node.name]
        node = readers[0] if len(readers) == 1 else node
        if len(readers) == 1 and isinstance(node.op, Bgr):
            values = values[..., ::-1]
        elif len(readers) == 1 and isinstance(node.op, Normalize):
            values = _normalized(values, node.op.mean, node.op.std)
        else:
            return values


def _normalized(values: NDArray[np.float32], mean: Floats, std: Floats) -> NDArray[np.float32]:
    return np.asarray((values - np.array(mean, np.float32)) / np.array(std, np.float32), np.float32)


def _of_source(program: Program, fed: NDArray[Any], drop_class: int | None, path: Path) -> NDArray[np.float64]:
    found = program.run(fed)
    if drop_class is None:
        return found
    if not 0 <= drop_class < found.shape[1]:
        raise CnnError.of("weights", f"there is no class {drop_class} to drop: `{path}` has {found.shape[1]}")
    kept = np.delete(found, drop_class, axis=1)
    return kept / np.maximum(1 - found[:, [drop_class]], _LEAST) if _are_shares(found) else kept


def _are_shares(values: NDArray[np.float64]) -> bool:
    """Whether outputs are probabilities of classes: none is negative, and they add up to 1, or in 8 bits to less."""
    return bool(values.shape[1] > 1 and values.min() >= 0 and 0 < values.sum(axis=1).max() < 1.1)


def _of_network(net: Net, weights: Weights, pixels: NDArray[np.uint8], *, is_shares: bool) -> NDArray[np.float64]:
    """The network's first output; probabilities where the source gives them, and what enters a softmax where not."""
    output = net.graph[net.graph.outputs[0][1]]
    ends_in_shares = isinstance(output.op, Softmax)
    found = []
    for each in pixels:
        result = net.apply(weights, each[None].astype(np.float32), logits=ends_in_shares and not is_shares)
        if isinstance(result, Mapping):
            result = next(iter(result.values()))
        found.append(np.asarray(result, np.float64).reshape(-1))
    values = np.stack(found)
    if is_shares and not ends_in_shares:
        raised = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))
    return values


def _compared(picture: str, theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> Compared:
    reach = np.ptp(theirs) or np.abs(theirs).max()
    difference = float(np.abs(theirs - ours).max())
    spreads = theirs.std() * ours.std()
    together = ((theirs - theirs.mean()) * (ours - ours.mean())).mean()
    return Compared(
        picture,
        int(theirs.argmax()),
        int(ours.argmax()),
        difference / float(reach) if reach else difference,
        float(together / spreads) if spreads else float(theirs.std() == ours.std()),
    )
