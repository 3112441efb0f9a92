"""scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, which come with the library and need no network."""

from __future__ import annotations

import numpy as np

from cnnc.data.sources import DataSet, Examples, split, take

HELD_OUT = 0.2
_SPLIT_SEED = 0


def load_digits() -> DataSet:
    """The digits with their values 0..16 stretched to 0..255, and a fixed fifth of every class held out."""
    # Imported late: it takes a second.
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    pictures = np.rint(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    everything = Examples((pictures,), (labels.astype(np.int32),))
    kept, held = (take(everything, indices) for indices in split(labels, HELD_OUT, _SPLIT_SEED))
    return DataSet(
        "digits",
        kept,
        held,
        held,
        tuple(map(str, range(10))),
        (f"the {len(held)} pictures held out serve as validation and as test set",),
    )
