"""What comparisons found, kept in zoo.json by the hash of our graph: of a spec that changes they are made anew."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from bench.zoo_comparison import compare, fingerprint
from bench.zoo_peers import Peer

STORE = Path(__file__).with_name("zoo.json")


@dataclass(frozen=True)
class Entry:
    """A comparison as it is kept. `theirs` is what their network was made of, `difference` in parts of the range."""

    graph: str
    theirs: str
    parameters: int
    difference: float
    moved: float


def measured(peers: Sequence[Peer], *, again: bool = False, store: Path = STORE) -> list[tuple[Peer, Entry]]:
    """The comparisons, those made that are not kept or no longer fit: a slow spell, told on stderr."""
    kept = read(store)
    found = []
    for peer in peers:
        entry = kept.get(str(peer))
        if again or entry is None or not fits(peer, entry):
            entry = kept[str(peer)] = measure(peer)
            store.write_text(json.dumps({name: asdict(kept[name]) for name in sorted(kept)}, indent=1) + "\n")
        found.append((peer, entry))
    return found


def read(store: Path = STORE) -> dict[str, Entry]:
    """What is kept, by peers' names."""
    kept = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    return {name: Entry(**entry) for name, entry in kept.items()}


def fits(peer: Peer, entry: Entry) -> bool:
    """Whether both networks are still those that were compared."""
    return (entry.graph, entry.theirs) == (fingerprint(peer.net()), made_of(peer))


def made_of(peer: Peer) -> str:
    """Their network in words, with the version of its library."""
    options = ", ".join(f"{name}={value}" for name, value in peer.options.items())
    return f"{peer.library} {version(peer.library.lower())}: {peer.name}({options}) on {peer.size}x{peer.size}"


def measure(peer: Peer) -> Entry:
    """One comparison."""
    start = perf_counter()
    found = compare(peer)
    entry = Entry(
        found.graph,
        made_of(peer),
        found.parameters,
        float(f"{found.relative:.2g}"),
        float(f"{found.moved / found.extent:.2g}"),
    )
    if peer.library == "Keras":
        import keras

        keras.backend.clear_session()
    gc.collect()
    seconds = perf_counter() - start
    print(f"{peer}: difference {entry.difference:.1e}, pictures {entry.moved:.2f}, {seconds:.0f} s", file=sys.stderr)
    return entry
