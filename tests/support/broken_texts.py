"""Texts that may or may not be specs: noise, words of the language, the grammar's own sentences, mutations of specs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from random import Random

import lark

from cnnc import specs
from cnnc.grammar import __name__ as GRAMMAR
from cnnc.ops import OPS
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests/language/golden"
_TOKEN = re.compile(r"\s+|#[^\n]*|\"[^\"\n]*\"|\w+|.", re.DOTALL)
_NAMES = (
    *(
        "a",
        "b",
        "stem",
        "head",
        "block1",
        "filters",
        "stride",
        "width",
        "classes",
        "act",
        "input",
        "x",
        "in",
        "identity",
    ),
    *("conv", "dense", "bn", "relu", "maxpool", "globalpool", "flatten", "dropout", "residual", "bottleneck", "mbconv"),
    *("se", "shortcut", "channels", "height", "layer", "int", "dims", "timm", "fixed", "round", "max", "stage", "same"),
    *("params", "macs", "loss", "optimizer", "schedule", "sgd", "cosine", "batch", "epochs", "cross_entropy", "data"),
)
_NUMBERS = ("0", "1", "2", "3", "7", "16", "64", "1000", "999999999", "99999999999999999999", "18")
_SAMPLES: dict[str, tuple[str, ...]] = {
    "NAME": _NAMES,
    "INTEGER": _NUMBERS,
    "DECIMAL": ("0.5", "1.1", "2.", "1e3", "1e400", "0.25"),
    "QUANTITY": ("5M", "4.09G", "0k"),
    "DIMS": ("3x3", "1x1", "32x32x3", "8x8x8x1", "28x28x1", "100x4", "0x3", "99999x99999x3", "2x2x2x2x2"),
    "STRING": ('"ir_r2_k3_s2_e6_c24"', '"ds_r1_k3_s1_e1_c16_se0.25"', '""', '"blocks.cnn"', '"cn_q"'),
    "COMPARE": ("==", "!=", "<", "<=", ">", ">="),
    "MULTIPLY": ("*", "//", "/", "%"),
    "MERGE": ("add", "concat", "mul"),
    "_NEWLINE": ("\n", "\n\n", " # a comment\n"),
}
_MARKS = (*'()[]{}|,:=+-*^.\n\t #"\x00\u00e9',)
_WORDS = tuple(
    ["model", "block", "scale", "variants", "train", "expect", "import", "output", "if", "else", "and", "or", "not"]
)


def noise(random: Random) -> str:
    """Characters at random."""
    alphabet = "abcx0123456789 \n\t(){}[]|,:=+-*/^.<>!\"#_'`~$&;@\\\x00\x7f\u00a0\u00d7\u3042\U0001f600"
    return "".join(random.choices(alphabet, k=random.randrange(200)))


def jumble(random: Random) -> str:
    """Words and signs of the language at random."""
    words = [*_MARKS, *_WORDS, *(word for sample in _SAMPLES.values() for word in sample), *OPS]
    return "".join(random.choice(words) + random.choice(("", " ", " ")) for _ in range(random.randrange(120)))


def sentence(random: Random) -> str:
    """A text that the grammar derives: it parses, but for its brackets' line ends, and may mean nothing."""
    rules, depths = _grammar()
    words: list[str] = []
    _derive("start", rules, depths, random, random.randrange(15, 60), words)
    return "".join(words)


def mutation(random: Random) -> str:
    """A bundled spec or a golden with a few of its tokens or characters deleted, doubled, swapped or replaced."""
    text = random.choice(_originals())
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        parts = list(text) if random.random() < 0.3 else _TOKEN.findall(text)
        if not parts:
            break
        here, there = random.randrange(len(parts)), random.randrange(len(parts))
        random.choice(_MUTATIONS)(parts, here, there, random)
        text = "".join(parts)
    return text


def arithmetic(random: Random) -> str:
    """A spec whose numbers are random arithmetic."""
    uses = ("dense({})", "{} x relu", "if {} {{ relu }}", "dropout({})", "conv(3, {}) | globalpool", "b({}, [{}, {}])")
    lines = [random.choice(uses).replace("{}", _expression(random, random.randrange(5))) for _ in range(3)]
    return "block b(n: float, m) {\n  dense(m)\n}\ninput 8x8x4\n" + "\n".join(lines) + "\n"


def _expression(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(
            (*_NUMBERS, "0.5", "1e400", "2.", "in.channels", "true", "3x3", '"a"', "[1, 2]", "relu", "stage")
        )
    parts = [_expression(random, depth - 1) for _ in range(3)]
    form = random.choice(
        ("({0} {op} {1})", "-{0}", "{f}({0})", "{f}({0}, {1})", "({0} if {1} {op} {2} else {2})", "not {0}")
    )
    operator = random.choice(("+", "-", "*", "/", "//", "%", "^", "==", "!=", "<", "<=", "and", "or"))
    function = random.choice(("min", "max", "round", "floor", "ceil", "abs", "sqrt", "log2", "fixed"))
    return form.format(*parts, op=operator, f=function)


KINDS: tuple[Callable[[Random], str], ...] = (noise, jumble, sentence, arithmetic, mutation)


def _delete(parts: list[str], here: int, there: int, random: Random) -> None:
    del parts[here : here + random.choice((1, 1, 1, 5, 40))]


def _double(parts: list[str], here: int, there: int, random: Random) -> None:
    parts[here:here] = parts[here : here + random.choice((1, 1, 5, 40))]


def _swap(parts: list[str], here: int, there: int, random: Random) -> None:
    parts[here], parts[there] = parts[there], parts[here]


def _copy(parts: list[str], here: int, there: int, random: Random) -> None:
    parts[here] = parts[there]


def _replace(parts: list[str], here: int, there: int, random: Random) -> None:
    sample = random.choice((*_SAMPLES.values(), _MARKS, _WORDS, tuple(OPS)))
    parts[here] = random.choice(sample)


_MUTATIONS = (_delete, _double, _swap, _copy, _replace, _replace)


@cache
def _originals() -> tuple[str, ...]:
    goldens = sorted(GOLDEN.glob("*.cnn"))
    prelude = files(GRAMMAR).joinpath("prelude.cnn").read_text(encoding="utf-8")
    bundled = [specs.read(name) for name in specs.names()]
    return (*bundled, prelude + "\ninput 32x32x3\nbottleneck\n", *(p.read_text(encoding="utf-8-sig") for p in goldens))


_MOST = 150
Rules = dict[str, list[list[str]]]


@cache
def _grammar() -> tuple[Rules, dict[str, int]]:
    """The grammar's rules, and how deep a derivation of each symbol must at least go. Terminals are in capitals."""
    parser = lark.Lark(files(GRAMMAR).joinpath("cnn.lark").read_text(encoding="utf-8"), parser="lalr")
    rules: Rules = {}
    for rule in parser.rules:
        rules.setdefault(str(rule.origin.name), []).append([str(symbol.name) for symbol in rule.expansion])
    for terminal in parser.terminals:
        if terminal.pattern.type == "str":
            _SAMPLES.setdefault(terminal.name, (str(terminal.pattern.value),))
    depths: dict[str, int] = {}
    while len(depths) < len(rules):
        for origin, expansions in rules.items():
            known = [e for e in expansions if all(s not in rules or s in depths for s in e)]
            if known:
                depths[origin] = 1 + min(max((depths.get(s, 0) for s in e), default=0) for e in known)
    return rules, depths


def _derive(symbol: str, rules: Rules, depths: dict[str, int], random: Random, depth: int, words: list[str]) -> None:
    if symbol not in rules:
        words.append(random.choice(_SAMPLES[symbol]) + " ")
        return
    expansions = rules[symbol]
    within = [e for e in expansions if max((depths.get(s, 0) for s in e), default=0) < depth and len(words) < _MOST]
    for part in random.choice(within or [min(expansions, key=lambda e: max((depths.get(s, 0) for s in e), default=0))]):
        _derive(part, rules, depths, random, depth - 1, words)
