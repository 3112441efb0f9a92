"""cnnc: a declarative architecture compiler for convolutional networks."""

from typing import TYPE_CHECKING, Any

from cnnc.diagnostics import CnnError as CnnError
from cnnc.loading import load as load
from cnnc.loading import load_text as load_text
from cnnc.net import Net as Net

if TYPE_CHECKING:
    from cnnc.training.resume import resume as resume
    from cnnc.training.train import train as train

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`cnnc.train` and `cnnc.resume`, imported when they are asked for: they bring jax and matplotlib."""
    if name == "resume":
        from cnnc.training.resume import resume

        return resume
    if name == "train":
        from cnnc.training.train import train

        return train
    raise AttributeError(f"module `cnnc` has no attribute `{name}`")
