"""The tables of docs/zoo.md: what networks were held against, how far off, and what the Edge TPU makes of them.

    python -m bench.zoo [--only NAME...] [--again] [--update docs/zoo.md]

Differences are those of the comparisons that the tests make, too (zoo_comparison.py); such as are kept in zoo.json and
still fit are not made again, unless by `--again`. Those that are need Keras, or PyTorch and Hugging Face's
transformers, and half an hour for all. `--update` puts the tables between the marks in a file, and without it they are
printed. `--only` takes names of specs: then nothing is updated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench.tables import replaced, table
from bench.zoo_comparison import TOLERANCE
from bench.zoo_darknet import cfg
from bench.zoo_lines import keras_lines, spec_lines
from bench.zoo_measured import Entry, measured
from bench.zoo_peers import KERAS, PEERS, Peer
from cnnc import specs
from cnnc.backends.edgetpu.memory import layer_bytes
from cnnc.backends.edgetpu.prediction import Cost, check
from cnnc.backends.tflite.structure import outline
from cnnc.language import parse
from cnnc.loading import find, load
from cnnc.net import Net
from cnnc.tflite_file.program import File

Found = Sequence[tuple[Peer, Entry]]


def main() -> int:
    """Print or write the tables; 1 where a network differs from the one it is held against."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], choices=specs.names(), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="make all comparisons anew")
    parser.add_argument("--update", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    names = arguments.only or specs.names()
    found = measured([peer for peer in PEERS if family(peer) in names], again=arguments.again)
    tables = {
        "networks": networks_table(names, found),
        "exactness": exactness_table(found),
        "lines": lines_table(names),
    }
    if arguments.update and not arguments.only:
        text = arguments.update.read_text(encoding="utf-8")
        for mark, table in tables.items():
            text = replaced(text, mark, table)
        arguments.update.write_text(text, encoding="utf-8")
    else:
        print("\n".join(tables.values()))
    return int(any(not entry.difference < TOLERANCE for _, entry in found))


def family(peer: Peer) -> str:
    """The name of the spec without its variant."""
    return find(peer.spec).stem


def networks_table(names: Sequence[str], found: Found) -> str:
    """A row a spec: the network as it is without a variant."""
    rows = []
    for name in names:
        net = load(name)
        own = [(peer, entry) for peer, entry in found if family(peer) == name]
        variants = [variant.name.text for variant in parse(find(name).source).variants]
        rows.append(
            [
                f"`{name}`",
                ", ".join(variants) or "-",
                f"{net.graph.trainable_count:,}",
                amount(net.graph.mac_count),
                against(own),
                f"{max(entry.difference for _, entry in own):.1e}" if own else "-",
                *on_the_device(net),
            ]
        )
    head = ["network", "variants", "parameters", "MACs", "held against (variants)", "difference"]
    return table([*head, "operators mapped", "bytes mapped", "cached", "streamed", "latency, ms"], rows)


def against(own: Found) -> str:
    """The libraries that have the network, and how many variants of it were compared."""
    counts: dict[str, set[str]] = {}
    for peer, _ in own:
        counts.setdefault(peer.library, set()).add(str(peer))
    return ", ".join(f"{library} ({len(peers)})" for library, peers in counts.items()) or "-"


def on_the_device(net: Net) -> list[str]:
    """What is predicted of it: operators and bytes mapped, bytes cached and streamed, and milliseconds by USB 3."""
    program = outline(net.graph)
    report = check(File((program,)))
    if not report.compiles:
        return [f"refused: {report.refused[0].message}", "-", "-", "-", "-"]
    mapped = [verdict.mapped for verdict in report.operators]
    unknown = report.mapped["unknown"]
    sizes = [sum(layer_bytes(program, operator)) for operator in program]
    inside = sum(size for size, is_mapped in zip(sizes, mapped, strict=True) if is_mapped)
    return [
        f"{sum(mapped) - unknown} of {len(mapped)}{f', {unknown} unknown' if unknown else ''}",
        f"{inside / sum(sizes):.0%}" if any(sizes) else "-",
        *costs(report.cost),
    ]


def costs(cost: Cost | None) -> list[str]:
    """Bytes cached and streamed, and the estimate of milliseconds with its range."""
    if cost is None:
        return ["-", "-", "-"]
    held, time = cost.parameters, cost.latency
    return [amount(held.cached), amount(held.streamed), f"{time.ms:.1f} ({time.low:.1f} to {time.high:.1f})"]


def exactness_table(found: Found) -> str:
    """A row a comparison."""
    rows = [
        [
            f"`{' '.join([peer.spec, *(f'--set {name}={value!r}' for name, value in peer.overrides.items())])}`",
            entry.theirs,
            f"{entry.parameters:,}",
            f"{entry.difference:.1e}",
        ]
        for peer, entry in found
    ]
    return table(["network", "held against", "parameters", "difference"], rows)


def lines_table(names: Sequence[str]) -> str:
    """A row a spec: its lines, those of Keras's code for the same network, those of a cfg of the default variant."""
    rows = []
    for name in names:
        function = keras_function(name)
        written = cfg(load(name).graph)
        rows.append(
            [
                f"`{name}`",
                str(spec_lines(name)),
                f"{keras_lines(function)} (`{function.__name__}`)" if function else "-",
                f"{written.lines:,}",
                ", ".join(written.missing) or "-",
            ]
        )
    return table(["network", "spec", "keras.applications", "cfg", "which cannot say"], rows)


def keras_function(name: str) -> Callable[..., object] | None:
    """The function of keras.applications for the first variant that was compared."""
    peer = next((peer for peer in KERAS if family(peer) == name), None)
    if peer is None:
        return None
    import keras

    function: Callable[..., object] = getattr(keras.applications, peer.name)
    return function


def amount(number: int) -> str:
    """A count to three digits."""
    for unit, size in _UNITS.items():
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


_UNITS: Mapping[str, int] = {"G": 10**9, "M": 10**6, "k": 10**3}


if __name__ == "__main__":
    sys.exit(main())
