"""cnnc: a declarative architecture compiler for convolutional networks."""

from cnnc.diagnostics import CnnError as CnnError
from cnnc.loading import load as load
from cnnc.loading import load_text as load_text
from cnnc.net import Net as Net

__version__ = "0.1.0"
