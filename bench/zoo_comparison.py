"""A spec's network beside another implementation's, with the same weights and on the same pictures.

`compare` builds theirs, gives all of its weights random values (batch norm's statistics, too), moves them into the
graph of the spec, and runs both on random pictures. docs/zoo.md is made of what it returns, and tests hold it to
`TOLERANCE`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bench.zoo_peers import Peer, Pictures
from cnnc.ir.text import print_graph
from cnnc.net import Net, Weights

TOLERANCE = 1e-4
"""Of the range of the logits."""


@dataclass(frozen=True)
class Comparison:
    """The largest difference between the logits of two networks of the same weights, and the range of theirs."""

    peer: Peer
    graph: str
    parameters: int
    difference: float
    extent: float
    moved: float
    """How far the logits of two pictures are apart: a network that is blind to its input agrees with any other."""

    @property
    def relative(self) -> float:
        return self.difference / self.extent


def compare(peer: Peer) -> Comparison:
    """Both networks on two random pictures. Imports Keras, or PyTorch and transformers."""
    net = peer.net()
    pictures = _pictures(peer.size)
    theirs, weights = _answer(peer, net, pictures)
    ours = np.asarray(net.apply(weights, pictures, logits=True))
    return Comparison(
        peer,
        fingerprint(net),
        net.graph.trainable_count,
        float(np.abs(ours - theirs).max()),
        float(np.ptp(theirs)),
        float(np.abs(theirs[0] - theirs[1]).max()),
    )


def _pictures(size: int) -> Pictures:
    """Two pictures of noise, and of two colours: noise of one brightness all looks alike to a mean over a large map."""
    rng = np.random.default_rng(1)
    colours = np.array([[1.0, 0.6, 0.2], [0.3, 0.5, 1.0]])[:, None, None]
    noise = rng.integers(256, size=(2, size, size, 3)).astype(np.float32)
    return noise * colours.astype(np.float32)


def _answer(peer: Peer, net: Net, pictures: Pictures) -> tuple[Pictures, Weights]:
    """Their logits, and their weights by our nodes."""
    if peer.library == "Keras":
        from bench import zoo_keras

        return zoo_keras.answer(peer, net, pictures)
    from bench import zoo_transformers

    return zoo_transformers.answer(peer, net, pictures)


def fingerprint(net: Net) -> str:
    """What changes when anything of the graph does."""
    return hashlib.sha256(print_graph(net.graph).encode()).hexdigest()
