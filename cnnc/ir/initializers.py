"""First values of weights, each drawn from the seed and its own name.

So renaming or adding a layer leaves every other layer's weights as they were. Drawn with NumPy: nothing is compiled,
and every platform gets the same numbers.

References:
    He et al. 2015, Delving Deep into Rectifiers: variance 2 / fan_in; PReLU's slope 0.25.
    Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward networks: 2 / (fan_in + fan_out).
    LeCun et al. 1998, Efficient BackProp: variance 1 / fan_in.
    Radford et al. 2019, Language Models are Unsupervised Multitask Learners: deviation 0.02.
"""

from __future__ import annotations

from math import sqrt
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cnnc.ops.base import Weight


def draw(weight: Weight, seed: int, name: str) -> NDArray[np.float32]:
    """The first value of one weight. `name` is its full name, `stem.conv.kernel` say."""
    match weight.initializer:
        case float(value):
            return np.full(weight.shape, value, np.float32)
        case "zeros":
            return np.zeros(weight.shape, np.float32)
        case "ones":
            return np.ones(weight.shape, np.float32)
        case "quarter":
            return np.full(weight.shape, 0.25, np.float32)
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, crc32(name.encode())))))
    deviation = np.float32(sqrt(variance(weight)))
    if weight.initializer.endswith("_uniform"):
        # A uniform variable of variance v lies within sqrt(3 v) of zero.
        return (generator.random(weight.shape, np.float32) * 2 - 1) * (np.float32(sqrt(3)) * deviation)
    return generator.standard_normal(weight.shape, np.float32) * deviation


def variance(weight: Weight) -> float:
    """The variance that the initialiser's paper asks for."""
    match weight.initializer:
        case "he_normal" | "he_uniform":
            return 2 / weight.fan_in
        case "glorot_normal" | "glorot_uniform":
            return 2 / (weight.fan_in + weight.fan_out)
        case "lecun_normal":
            return 1 / weight.fan_in
        case "normal":
            return 0.02**2
        case "zeros" | "ones" | "quarter" | float():
            return 0.0
