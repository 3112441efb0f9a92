"""Random specs that are about names: labels, values, parameters and words, of few names that hide each other.

Every layer keeps a map of four channels as it is, so that most of them expand.
"""

from __future__ import annotations

from collections.abc import Callable
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
_WORDS = ("same", "valid", "half", "auto", "nearest")
_OWN = ("relu", "tanh", "bn", "conv", "sub", "identity", "stage", "unit", "mix", "basic", "timm", "shared")
_FRESH = ("a", "b", "c", "d", "relu", "conv", "sub", "same", "unit", "z", "identity")
"""Names that a definition takes: some hide a layer or a word."""


def named(random: Random) -> str:
    """A spec whose names may or may not be right."""
    model = _Body(random, [])
    declared = random.choice(("", "input 6x6x4\n", "input 6x6x4\n", "input 6x6x4\n", "input p 6x6x4\ninput q 6x6x4\n"))
    model.labels += [name for name in ("p", "q") if f"input {name}" in declared]
    lines = model.statements(random.randrange(1, 6))
    output = f"output {', '.join(random.sample(model.results, len(model.results)))}\n" if model.results else ""
    lines.insert(random.randrange(len(lines) + 1), output)
    return f"{declared}{''.join(lines)}{_own_block(random)}{BLOCKS}"


def _own_block(random: Random) -> str:
    """A block of random lines, which may or may not be called."""
    parameters = random.sample(_FRESH, random.randrange(3))
    defaults = [random.choice(("=relu", "=conv", "=4", ": layer = tanh", ": int = 1")) for _ in parameters]
    body = _Body(random, parameters)
    body.layers = [name for name, default in zip(parameters, defaults, strict=True) if default[-1].isalpha()]
    lines = "".join(body.statements(random.randrange(1, 4)))
    joined = f"add({', '.join(body.results)})\n" if body.results else ""
    head = ", ".join(name + default for name, default in zip(parameters, defaults, strict=True))
    return f"\nblock own({head}) {{\n{lines}{joined}}}\n"


class _Body:
    """Writes the statements of a model or a block; knows the names that it has defined."""

    def __init__(self, random: Random, values: list[str]) -> None:
        self._random = random
        self.values = list(values)
        self.layers: list[str] = []
        """Those of the values that are layers."""
        self.blocks: list[str] = []
        """Those of the labels whose result may be a block's."""
        self.labels: list[str] = []
        self.results: list[str] = []
        """Labels of whole lines, which nothing may read."""
        self._is_read = True
        self._depth = 0

    def statements(self, count: int) -> list[str]:
        forms = [self._flow, self._flow, self._flow, self._assignment]
        forms += [self._if] if self._depth < 2 else []
        return [self._random.choice(forms)() for _ in range(count)]

    def _flow(self) -> str:
        start = f"{self._start()} | " if self._is_read and self._random.random() < 0.5 else ""
        text = f"{start}{self._pipeline(2)}"
        if self._random.random() < 0.7:
            label = self._fresh()
            self.labels.append(label)
            self.results.append(label)
            self._is_read = True
            if text.endswith(("unit", "unit(4)", "joint", "pad=1)")):
                self.blocks.append(label)
            return f"{label}: {text}\n"
        self._is_read = False
        return f"{text}\n"

    def _assignment(self) -> str:
        layers: list[Callable[[], str]] = [lambda: self._layer(1), lambda: f"shared({self._layer(1)})"]
        layers += [lambda: "conv(3)", lambda: "conv", lambda: self._layer(0)]
        values: list[Callable[[], str]] = [lambda: "4", lambda: self._name([*self.values, *self.labels], "4")]
        is_layer = self._random.random() < 0.7
        value = self._random.choice(layers if is_layer else values)()
        name = self._fresh()
        self.values.append(name)
        self.layers += [name] if is_layer else []
        return f"{name} = {value}\n"

    def _if(self) -> str:
        before = len(self.results)
        self._depth += 1
        then, otherwise = (self.statements(self._random.randrange(1, 3)) for _ in range(2))
        self._depth -= 1
        if self._random.random() < 0.9:
            del self.results[before:]  # of a branch that may not be taken
        return f"if {self._test()} {{\n{''.join(then)}}} else {{\n{''.join(otherwise)}}}\n"

    def _pipeline(self, depth: int) -> str:
        return " | ".join(self._layer(depth) for _ in range(self._random.randrange(1, 4)))

    def _layer(self, depth: int) -> str:
        forms: list[Callable[[], str]] = [
            lambda: self._random.choice(("relu", "tanh", "bn", "identity")),
            lambda: f"conv(3, 4, padding={self._word()})",
            lambda: f"conv(3, {self._number()})",
            lambda: self._name(self.layers, "relu"),
            lambda: f"{self._name(self.layers, 'conv')}(filters=4, kernel=3, padding={self._word()})",
            lambda: f"2 x {self._name(self.layers, 'conv')}(3, 4, stride={self._name(self.values, '1')} // 4)",
            lambda: self._random.choice(("unit", "unit(4)", "unit | inside", "unit | joint", "own")),
            lambda: self._random.choice(("unit", 'timm("cn_r1_k3_s1_c4")', "basic(4)", "conv(3, 4)")),
        ]
        if depth:
            forms += [
                lambda: f"unit(act={self._layer(depth - 1)})",
                lambda: f"joint({self._start()})",
                lambda: f"mix({self._layer(0)}, pad={self._random.choice(('1', self._word()))})",
                lambda: f"2 x {self._layer(depth - 1)}",
                lambda: f"[1, 1] x ({self._pipeline(depth - 1)})",
                lambda: self._branches(depth - 1),
                lambda: f"({self._branches(depth - 1)} if {self._test()})",
                lambda: f"({self._layer(depth - 1)} if {self._test()} else {self._branches(depth - 1)})",
            ]
        return self._random.choice(forms)()

    def _branches(self, depth: int) -> str:
        lines = []
        for _ in range(2):
            start = f"{self._start()} | " if self._random.random() < 0.3 else ""
            layer = f"{start}{self._layer(depth)}"
            label = self._fresh() if self._random.random() < 0.4 else ""
            lines.append(f"{label}: {layer}\n" if label else f"{layer}\n")
            self.labels += [label] if label else []
        return f"add {{\n{''.join(lines)}}}"

    def _start(self) -> str:
        """A result that a line or a branch may start from."""
        inner = self._random.choice(("z", "z", "wide", "before", "before.z"))
        forms = (
            lambda: self._name(self.labels, "in"),
            lambda: self._name(self.labels, "in"),
            lambda: "in",
            lambda: f"{self._name(self.blocks, 'in')}.{inner}" if self.blocks else "in",
            lambda: f"sub({self._name(self.labels, 'in')}, in | {self._layer(0)})",
            lambda: f"add({self._name(self.labels, 'in')}, {self._branches(0)})",
        )
        return self._random.choice(forms)()

    def _word(self) -> str:
        """A word of padding, or what may stand in its place."""
        word = self._random.choice(("same", "half", "same", "1"))
        return self._random.choice((word, word, f"{word} if {self._test()} else half", self._name(self.values, "same")))

    def _number(self) -> str:
        return self._random.choice(("4", "4", "in.channels", "4 + stage", "max(4, 2)", self._name(self.values, "4")))

    def _test(self) -> str:
        return self._random.choice(("1 < 2", "1 > 2", "stage == 0", "in.channels == 4"))

    def _name(self, known: list[str], otherwise: str) -> str:
        """One of the names that are known, or now and then any."""
        if self._random.random() < 0.97:
            return self._random.choice(known or [otherwise])
        return self._random.choice((*_FRESH, *_WORDS, *_OWN))

    def _fresh(self) -> str:
        """A name for a definition, now and then one that is defined already."""
        free = [name for name in _FRESH if name not in self.values and name not in self.labels]
        if self._random.random() < 0.99:
            return self._random.choice(free or [f"n{len(self.labels) + len(self.values)}"])
        return self._random.choice((*_FRESH, *_OWN))
