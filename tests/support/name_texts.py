"""Random specs that are about names: labels, values, parameters and words, of few names that hide each other.

Every layer keeps a map of four channels as it is, so that most of them expand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

BLOCKS = """
block unit(n: channels = 4, act: layer = relu, stride=1) {
  wide: conv(3, n, stride=stride)
  z: act
}

block mix(layer: layer, pad=1) {
  z: layer(3, 4, padding=same) | add {
    inner: conv(3, 4, padding=pad)
    identity
  }
}

block joint(other: tensor = in.before) {
  add(other, in) | tanh
}

block inside {
  add(in.z, in)
}
"""
_FRESH = ("a", "b", "relu", "tanh", "bn", "conv", "sub", "same", "half", "unit", "z", "relu1", "conv1", "identity")
"""Names that a definition takes: some hide a layer or a word, some are those of layers that are counted."""
_ANY = (*_FRESH, "valid", "stage", "mix", "timm", "shared", "inner", "nothing")


def named(random: Random) -> str:
    """A spec whose names may or may not be right."""
    model = _Body(random, "own")
    inputs = random.choice(([], [""], [""], ["p ", "q "]))
    stem = ("stem: input | depthwise(3) | conv(3, 4)\n", "stem: in | bn\n", "stem: add(p, q)\n")[len(inputs)]
    model.labels += ["stem", *(["in"] if inputs == [""] else [name.strip() for name in inputs])]
    model.results.append("stem")
    lines = [stem, *model.statements(random.randrange(1, 5))]
    own = _own_block(random) if any("own" in line for line in lines) or random.random() < 0.2 else ""
    lines.insert(random.randrange(len(lines) + 1), f"output {', '.join(model.results)}\n")
    return f"{''.join(f'input {name}6x6x4{chr(10)}' for name in inputs)}{''.join(lines)}{own}{BLOCKS}"


def _own_block(random: Random) -> str:
    """A block of random lines."""
    body = _Body(random)
    body.labels.append("in")
    parameters = []
    for name in random.sample(_FRESH, random.randrange(3)):
        kinds = ((body.layers, "=relu"), (body.layers, ": layer = tanh"), (body.whole, "=conv"), (body.numbers, "=4"))
        names, default = random.choice(kinds)
        names.append(name)
        parameters.append(f"{name}{default}")
    lines = "".join(body.statements(random.randrange(1, 4)))
    joined = f"add({', '.join(body.results)})\n" if body.results else ""
    return f"\nblock own({', '.join(parameters)}) {{\n{lines}{joined}}}\n"


class _Body:
    """Writes the statements of a model or a block, and knows the names that it has defined."""

    def __init__(self, random: Random, *blocks: str) -> None:
        self._random = random
        self.callable = blocks
        self.labels: list[str] = []
        self.blocks: list[str] = []
        """Of the labels those of a block's result."""
        self.results: list[str] = []
        """Of the labels those of whole lines, which nothing may read."""
        self.layers: list[str] = []
        self.whole: list[str] = []
        """Names for `conv` without any argument."""
        self.partial: list[str] = []
        """Names for `conv(3)`, without its filters."""
        self.numbers: list[str] = []
        self._within: list[str] = []
        """Labels of branches, which may or may not be taken."""
        self._depth = 0

    def statements(self, count: int) -> list[str]:
        forms = [self._flow, self._flow, self._flow, self._assignment]
        forms += [self._if] if self._depth < 2 else []
        return [self._random.choice(forms)() for _ in range(count)]

    def _flow(self) -> str:
        """A labelled line, or two of which the second goes on; now and then with a label of a branch on the way."""
        start, layers = self._start(), [self._layer(2) for _ in range(self._random.randrange(1, 3))]
        if self._random.random() < 0.4:
            inner = self._random.choice((self._fresh(), self._fresh("relu1", "conv1", "elu1")))
            layers.insert(0, f"(add {{\n{inner}: {self._layer(0)}\nidentity\n}} if 1 < 2)")
            self.labels.append(inner)
            self.results.append(inner)
        text = f"{start} | {' | '.join(layers)}"
        label = self._fresh()
        self.labels.append(label)
        self.results.append(label)
        if self._random.random() < 0.2:
            return f"{text}\n{label}: {self._unhidden('relu', 'conv(3, 4)', 'elu')} | tanh\n"
        if text.endswith(("| unit", "| unit(4)", "pad=1)")):
            self.blocks.append(label)
        return f"{label}: {text}\n"

    def _assignment(self) -> str:
        kind, value = self._random.choice(
            (
                (self.layers, self._layer(1)),
                (self.layers, self._unhidden("bn(momentum=0.9)", "relu", "tanh")),
                (self.layers, f"shared({self._unhidden('conv(3, 4)', 'bn', 'unit')})"),
                (self.whole, "conv"),
                (self.partial, "conv(3)"),
                (self.numbers, "4"),
                (self.labels, self._known(self.labels)),
            )
        )
        own = re.split(r"\W", value)[0]
        name = self._fresh(own) if own in _FRESH and self._random.random() < 0.5 else self._fresh()
        kind.append(name)
        return f"{name} = {value}\n"

    def _if(self) -> str:
        """Two branches; what one defines may be named after them, as the condition may hold."""
        self._depth += 1
        known = (self.labels, self.blocks, self.results, self.layers, self.whole, self.partial, self.numbers)
        before = [list(names) for names in known]
        then = self.statements(self._random.randrange(1, 3))
        after = [list(names) for names in known]
        for names, kept in zip(known, before, strict=True):
            names[:] = kept
        otherwise = self.statements(self._random.randrange(1, 3))
        test, is_true = self._random.choice((("1 < 2", True), ("1 > 2", False)))
        for names, kept in zip(known, after, strict=True):
            names[:] = kept if is_true else names
        self._depth -= 1
        return f"if {test} {{\n{''.join(then)}}} else {{\n{''.join(otherwise)}}}\n"

    def _layer(self, depth: int) -> str:
        forms: list[Callable[[], str]] = [
            lambda: self._unhidden("relu", "tanh", "bn", "identity", "conv(3, 4)"),
            lambda: self._unhidden(f"conv(3, {self._number()}, padding={self._word()})"),
            lambda: self._known(self.layers, "elu"),
            lambda: " | ".join(self._known(self.layers, "elu") for _ in range(2)),
            lambda: self._call(self.whole, f"(3, 4, padding={self._word()})"),
            lambda: self._call(self.whole, "(filters=4, kernel=3)"),
            lambda: self._call(self.partial, f"(4, padding={self._word()})"),
            lambda: f"2 x {self._call(self.whole, f'(3, 4, stride={self._number()} // 4)')}",
            lambda: self._unhidden("unit", "unit(4)", "unit | inside", "unit | joint", *self.callable),
            lambda: self._unhidden("unit", 'timm("cn_r1_k3_s1_c4")', "basic(4)", "bn(momentum=0.9)"),
        ]
        if depth:
            forms += [
                lambda: self._unhidden(f"unit(act={self._layer(depth - 1)})"),
                lambda: f"joint({self._result()})",
                lambda: f"mix({self._known(self.whole, 'conv_transpose')}, pad=1)",
                lambda: f"2 x {self._random.choice((self._unhidden('unit'), self._branches(depth - 1)))}",
                lambda: f"[1, 1] x ({self._layer(depth - 1)} | {self._layer(depth - 1)})",
                lambda: self._branches(depth - 1),
                lambda: f"({self._branches(depth - 1)} if {self._test()})",
                lambda: f"({self._branches(depth - 1)} if {self._test()} else {self._branches(depth - 1)})",
            ]
        return self._random.choice(forms)()

    def _branches(self, depth: int) -> str:
        lines = []
        for _ in range(2):
            start = f"{self._start()} | " if self._random.random() < 0.3 else ""
            layer = f"{start}{self._layer(depth)}"
            label = self._fresh() if self._random.random() < 0.4 else ""
            self._within.append(label)
            lines.append(f"{label}: {layer}\n" if label else f"{layer}\n")
        return f"add {{\n{''.join(lines)}}}"

    def _start(self) -> str:
        """A result that a line or a branch may start from."""
        forms: tuple[Callable[[], str], ...] = (
            self._result,
            self._result,
            lambda: f"sub({self._result()}, {self._result()} | {self._layer(0)})",
            lambda: f"add({self._result()}, {self._result()} | {self._branches(0)}, {self._result()} | relu)",
        )
        return self._random.choice(forms)()

    def _result(self) -> str:
        if self.blocks and self._random.random() < 0.4:
            return f"{self._known(self.blocks)}.{self._random.choice(('z', 'z', 'before'))}"
        return self._known(self.labels)

    def _call(self, names: Sequence[str], arguments: str) -> str:
        return f"{self._known(names)}{arguments}" if names else "elu"

    def _unhidden(self, *layers: str) -> str:
        """One of the layers, none of which a name hides."""
        hidden = {*self.labels, *self.layers, *self.whole, *self.partial}
        return self._random.choice([each for each in layers if re.split(r"\W", each)[0] not in hidden] or ["elu"])

    def _word(self) -> str:
        """A word of padding, or what may stand in its place."""
        word = next(word for word in ("same", "half", "1") if word not in (*self.labels, *self.layers, *self.numbers))
        return self._random.choice((word, word, f"{word} if {self._test()} else 1"))

    def _number(self) -> str:
        return self._random.choice(("4", "4 + stage * 0", "max(4, 2)", self._known(self.numbers, "4")))

    def _test(self) -> str:
        return self._random.choice(("1 < 2", "1 > 2", "stage == 0"))

    def _known(self, names: Sequence[str], otherwise: str = "in") -> str:
        """One of the names, or now and then any."""
        return self._random.choice(_ANY if self._random.random() < 0.01 else names or [otherwise])

    def _fresh(self, *names: str) -> str:
        """A name for a definition, one of those given if they are free; now and then one that is defined already."""
        known = {*self.labels, *self.layers, *self.whole, *self.partial, *self.numbers, *self._within}
        free = [name for name in names if name not in known] or [name for name in _FRESH if name not in known]
        return self._random.choice(_ANY if self._random.random() < 0.01 else free or [f"n{len(known)}"])
