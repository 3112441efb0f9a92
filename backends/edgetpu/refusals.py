"""Why the compiler refuses a whole model, before it looks at what can be mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Final

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.operator_view import EIGHT_BITS, Site
from cnnc.backends.edgetpu.rules import FIXED_SIZES
from cnnc.frozen import dataclass
from cnnc.tflite_file.program import File, Program, Tensor
from cnnc.tflite_file.schema import OPERATORS
from cnnc.tflite_file.schema import TENSOR_TYPES as TYPES


@dataclass(frozen=True)
class Refusal:
    """The compiler's refusal of a model. `index` is the operator's, -1 where it is none's."""

    message: str
    remedy: str
    source: str
    index: int = -1


def refusals(file: File) -> tuple[Refusal, ...]:
    """All of a file, those of the model first, then by operator."""
    return tuple(refusal for find in _FINDERS for refusal in find(file))


def _several_subgraphs(file: File) -> Iterator[Refusal]:
    if len(file.programs) > 1:
        yield Refusal(
            f"the file has {len(file.programs)} subgraphs, and the compiler takes one",
            "take the branches (IF, WHILE, CALL_ONCE) out of the model",
            "google-coral/edgetpu 317; all pairs have one",
        )


def _no_operators(file: File) -> Iterator[Refusal]:
    if not file.main.operators:
        yield Refusal("the model has no operators", "compile a model that computes something", "TFLite interpreter")


def _unknown_operators(file: File) -> Iterator[Refusal]:
    for i, operator in enumerate(file.main):
        if operator.custom == facts.COMPILED:
            remedy = "compile the model that it was made of; this file can be run as it is"
            yield Refusal("the model is compiled for the Edge TPU already", remedy, facts.COMPILER, i)
        elif operator.kind == "CUSTOM":
            if operator.custom not in facts.CUSTOM:
                message = f"Encountered unresolved custom op: {operator.custom}"
                yield Refusal(message, "build the layer from TFLite's own operators", "compiler log", i)
        elif operator.kind not in OPERATORS or OPERATORS.index(operator.kind) >= facts.BUILTIN_CODES:
            message = f"Op builtin_code out of range: {operator.kind}"
            yield Refusal(message, "build the layer from operators that TensorFlow 2.5 has", "compiler log", i)


def _new_versions(file: File) -> Iterator[Refusal]:
    for i, operator in enumerate(file.main):
        _, probable = facts.REGISTERED.get(operator.kind, (0, 0))
        known = operator.kind in OPERATORS[: facts.BUILTIN_CODES] and operator.kind != "CUSTOM"
        if known and not 1 <= operator.version <= probable:
            yield Refusal(
                f"Didn't find op for builtin opcode '{operator.kind}' version '{operator.version}'",
                f"the compiler knows versions up to {probable}: convert with an older TensorFlow, or write the file "
                "with cnnc, which uses the lowest version",
                "google-coral/edgetpu 631, 845, 879",
                i,
            )


def _dynamic_shapes(file: File) -> Iterator[Refusal]:
    """Sizes that the file leaves open, a batch aside: two pairs (`dense_*`) have one, and were compiled."""
    for tensor in file.main.activations():
        if tensor.signature is not None and -1 in tensor.signature[1:]:
            yield Refusal(
                f"dynamic-sized tensor `{tensor.name}`: shape {list(tensor.signature)}",
                "convert the model for inputs of a fixed size",
                "google-coral/edgetpu 586, 829, 831",
            )
            return
    sites = [Site(file.main, operator) for operator in file.main]
    dynamic = [i for i, site in enumerate(sites) if site.kind in _NEVER_STATIC or site.has_computed_sizes]
    if dynamic:
        kind = file.main.operators[dynamic[0]].kind
        more = f" (and {len(dynamic) - 1} more like this)" if len(dynamic) > 1 else ""
        yield Refusal(
            f"dynamic-sized tensor: {kind} works its output's size out while it runs{more}",
            FIXED_SIZES,
            "google-coral/edgetpu 829, tensorflow 51467",
            dynamic[0],
        )


_NEVER_STATIC: Final = ("WHERE", "UNIQUE")


def _types(file: File) -> Iterator[Refusal]:
    for tensor in file.main.tensors.values():
        if tensor.type not in TYPES[: facts.TENSOR_TYPES]:
            message = f"tensor `{tensor.name}` is of type {tensor.type}, which TensorFlow 2.5 does not have"
            yield Refusal(message, "store weights as int8", "TFLite schema")
            return


def _floats(file: File) -> Iterator[Refusal]:
    """Convolutions and dense layers in another type than 8 bits; other operators may stay on the CPU so."""
    eight = any(tensor.type in EIGHT_BITS for tensor in file.main.activations())
    for i, operator in enumerate(file.main):
        inputs = Site(file.main, operator).inputs[:1]
        other = next((tensor.type for tensor in inputs if tensor.type not in EIGHT_BITS), None)
        if operator.kind in _HEAVY and other is not None:
            remedy = "quantise the whole model to 8 bits with pictures to measure ranges on"
            yield Refusal(f"Model not quantized: {operator.kind} works on {other.lower()}", remedy, _FLOAT_ISSUES, i)
            return
    if not eight and file.main.operators:
        yield Refusal("Model not quantized", "quantise the whole model to 8 bits", _FLOAT_ISSUES)


_HEAVY: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
_FLOAT_ISSUES: Final = "google-coral/edgetpu 79, 168, 213, 313, 367"


def _scales(file: File) -> Iterator[Refusal]:
    for tensor in file.main.tensors.values():
        found = tensor.quantization
        if found is not None and not all(scale > 0 and isfinite(scale) for scale in found.scale):
            yield Refusal(
                f"tensor `{tensor.name}` has a scale of {min(found.scale, key=lambda scale: (isfinite(scale), scale))}",
                "give constant layers a scale above 0",
                "LibrEdgeTPU, matmul engine notes",
            )
            return
        if found is None and tensor.type == "INT8" and tensor.data is None and _is_used(file.main, tensor):
            remedy = "give every activation a scale and a zero point"
            yield Refusal(f"Model not quantized: tensor `{tensor.name}` has no scale", remedy, _FLOAT_ISSUES)
            return


def _is_used(program: Program, tensor: Tensor) -> bool:
    return bool(program.consumers[tensor.name]) or tensor.name in program.producers


def _groups(file: File) -> Iterator[Refusal]:
    for i, operator in enumerate(file.main):
        site = Site(file.main, operator)
        weights = site.input(1)
        if operator.kind != "CONV_2D" or weights is None or len(weights.shape) != 4 or len(site.first) != 4:
            continue
        if site.first[3] != weights.shape[3]:
            yield Refusal(
                f"CONV_2D of {site.first[3]} channels with weights for {weights.shape[3]}: a grouped convolution, "
                "which TensorFlow 2.5 does not have",
                "split the channels, convolve each group and concatenate",
                "tensorflow/lite/kernels/conv.cc, 2.5",
                i,
            )


_FINDERS: Final[tuple[Callable[[File], Iterator[Refusal]], ...]] = (
    _several_subgraphs,
    _no_operators,
    _types,
    _unknown_operators,
    _new_versions,
    _dynamic_shapes,
    _floats,
    _scales,
    _groups,
)
