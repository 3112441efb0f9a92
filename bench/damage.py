"""Changes to a TFLite file at random: to its bytes, or to the tables that they stand for, which are written again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.schema import OPERATORS, TABLES, TENSOR_TYPES, UNIONS
from cnnc.tflite_file.write import IDENTIFIER

Mutation = Callable[[bytes, np.random.Generator], bytes]
_NUMBERS: Final = (0, 1, -1, 2, 3, 127, 255, -128, 2**31 - 1, -(2**31), 2**16, 0x7F800000, 0x7FC00000)


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits changed."""
    changed = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, len(changed), rng.integers(1, 9))
    changed[places] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
    return changed.tobytes()


def overwrite_integers(data: bytes, rng: np.random.Generator) -> bytes:
    """Some words of 32 bits changed to a number that ends ranges, or to their neighbours."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<i4").copy()
    for place in rng.integers(0, len(words), rng.integers(1, 5)):
        near = int(words[place]) + int(rng.choice([-1, 1, 4, -4]))
        words[place] = np.int64(near if rng.random() < 0.4 else rng.choice(_NUMBERS)).astype(np.int32)
    return words.tobytes() + data[len(data) // 4 * 4 :]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end cut off."""
    return data[: rng.integers(0, len(data))]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece of it over another place."""
    size = 4 * int(rng.integers(1, 17))
    source, target = (4 * int(rng.integers(0, (len(data) - size) // 4)) for _ in range(2))
    return data[:target] + data[source : source + size] + data[target + size :]


# Mutations of tables, which are written again


def _rewritten(change: Callable[[flatbuffer.Table, np.random.Generator], None]) -> Mutation:
    def mutate(data: bytes, rng: np.random.Generator) -> bytes:
        model = flatbuffer.read(data, "Model", IDENTIFIER, "a subject")
        for _ in range(rng.integers(1, 3)):
            change(model, rng)
        return flatbuffer.write("Model", model, IDENTIFIER)

    return mutate


def _one(rng: np.random.Generator, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _numbers(rng: np.random.Generator, values: Any, choices: Sequence[Any]) -> list[Any]:
    """A list with one number more, less or another."""
    found = [each.item() for each in np.asarray(values)]
    place = int(rng.integers(len(found) + 1))
    kind = rng.integers(4)
    if kind == 0 or not found:
        return [*found[:place], _one(rng, choices), *found[place:]]
    if kind == 1:
        return found[:place] + found[place + 1 :]
    if kind == 2:
        return [found[i] for i in rng.permutation(len(found))]
    return [_one(rng, choices) if i == place % len(found) else each for i, each in enumerate(found)]


def change_operands(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Other inputs or outputs of an operator or of the graph."""
    graph = model["subgraphs"][0]
    owner = graph if rng.random() < 0.2 else _one(rng, graph["operators"])
    side = "inputs" if rng.random() < 0.6 else "outputs"
    count = len(graph["tensors"])
    owner[side] = _numbers(rng, owner.get(side, ()), [-1, *range(count), count, 2**31 - 1])


def change_operator(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Another operator in its place, or another version of it."""
    code = _one(rng, model["codes"])
    kind = int(rng.integers(3))
    if kind == 0:
        number = int(rng.integers(len(OPERATORS)))
        code |= {"code": number, "deprecated_code": min(number, 127)}
    elif kind == 1:
        code["version"] = _one(rng, [0, 1, 2, 5, 12, -1])
    else:
        _one(rng, model["subgraphs"][0]["operators"])["code_index"] = int(rng.integers(len(model["codes"]) + 1))


def change_options(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Another number among an operator's options, or none of them."""
    operator = _one(rng, model["subgraphs"][0]["operators"])
    options = operator.get("options")
    if not options or rng.random() < 0.1:
        operator.pop("options", None)
        operator["options_type"] = 0
        return
    field = _one(rng, [each for each in TABLES[UNIONS["Options"][operator["options_type"]]] if each.name in options])
    if field.kind in _OPTIONS and not field.vector:
        options[field.name] = _one(rng, _OPTIONS[field.kind])


_OPTIONS: Final[Mapping[str, Sequence[Any]]] = {
    "bool": (False, True),
    "i8": (-1, 0, 1, 2, 3, 5, 100),
    "i32": (-1, 0, 1, 2, 3, 5, 100, 2**31 - 1, -(2**31)),
    "f32": (0.0, -1.0, float("nan"), float("inf"), 1e30),
}


def change_shape(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Another size, or an axis more or less, of a tensor."""
    tensor = _one(rng, model["subgraphs"][0]["tensors"])
    tensor["shape"] = _numbers(rng, tensor.get("shape", ()), [0, 1, 2, 3, 8, 64, 2**16, 2**31 - 1, -1])


def change_type(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Another type, buffer or kind of a tensor."""
    tensor = _one(rng, model["subgraphs"][0]["tensors"])
    kind = int(rng.integers(4))
    if kind == 0:
        tensor["buffer"] = int(rng.integers(len(model["buffers"]) + 1))
    elif kind == 1:
        tensor["is_variable"] = not tensor["is_variable"]
    else:
        tensor["type"] = int(rng.integers(len(TENSOR_TYPES)))


def change_quantization(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Other scales, zero points or axes of a tensor."""
    tensor = _one(rng, model["subgraphs"][0]["tensors"])
    found = tensor.setdefault("quantization", {})
    kind = int(rng.integers(3))
    if kind == 0:
        scales = [0.0, -1.0, 1.0, 1e-38, 1e38, float("nan"), float("inf"), 0.5]
        found["scale"] = _numbers(rng, found.get("scale", ()), scales)
    elif kind == 1:
        found["zero_point"] = _numbers(rng, found.get("zero_point", ()), [0, 1, -129, 256, 2**31, 2**62, -(2**62)])
    else:
        found["axis"] = _one(rng, [-1, 0, 1, 2, 3, 4, 2**31 - 1])


def change_data(model: flatbuffer.Table, rng: np.random.Generator) -> None:
    """Other values of a constant, among them sizes and axes that operators go by."""
    buffers = [each for each in model["buffers"] if len(each.get("data", ())) >= 4]
    small = [each for each in buffers if len(each["data"]) <= 32] or buffers
    buffer = _one(rng, small if rng.random() < 0.7 else buffers)
    words = buffer["data"][: len(buffer["data"]) // 4 * 4].view("<i4").copy()
    words[int(rng.integers(len(words)))] = np.int64(_one(rng, _NUMBERS)).astype(np.int32)
    buffer["data"] = np.concatenate([words.view(np.uint8), buffer["data"][len(words) * 4 :]])


MUTATIONS: Final[Mapping[str, Mutation]] = {
    "bits": flip_bits,
    "integers": overwrite_integers,
    "cut": cut,
    "splice": splice,
    "operands": _rewritten(change_operands),
    "operator": _rewritten(change_operator),
    "options": _rewritten(change_options),
    "shape": _rewritten(change_shape),
    "type": _rewritten(change_type),
    "quantization": _rewritten(change_quantization),
    "data": _rewritten(change_data),
}
