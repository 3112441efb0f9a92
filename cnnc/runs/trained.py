"""A network with weights: out of a run's folder, or of a spec with a file of weights or random ones."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cnnc import backends
from cnnc.diagnostics import CnnError
from cnnc.ir.model import Model
from cnnc.loading import find, load_spec
from cnnc.net import Net, Weights
from cnnc.overrides import Overrides
from cnnc.runs.data_note import ARRAYS, NO_DATA, DataNote
from cnnc.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with weights, the names of its classes, and where all of it came from.

    Attributes:
        net: the network, with the recipe that it was trained by.
        weights: float32 arrays by node and short name.
        classes: their names in the order of the outputs, or none.
        data: what it was trained on; of a spec, what its recipe names.
        folder: the run that it is; None for a spec.
        epoch: of a run's weights.
        weights_file: where the weights were read from.
        is_random: whether the weights were drawn, and only show the structure.
    """

    net: Net
    weights: Weights
    classes: tuple[str, ...] = ()
    data: DataNote = NO_DATA
    folder: RunFolder | None = None
    epoch: int = 0
    weights_file: Path | None = None
    is_random: bool = False

    @property
    def model(self) -> Model:
        """The graph and the weights, for passes and backends."""
        return Model(self.net.graph, self.weights)

    @property
    def calibration(self) -> Path | None:
        """The file of training examples that a run of arrays keeps."""
        return self.folder.calibration if self.folder is not None and self.folder.calibration.is_file() else None

    @property
    def spec_sha256(self) -> str:
        return hashlib.sha256(self.net.text.encode()).hexdigest()


def open_trained(
    what: str | os.PathLike[str],
    overrides: Overrides | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    random_seed: int | None = None,
    last: bool = False,
    help: str = "give --weights FILE, or name a run's folder instead",
) -> Trained:
    """The network of a run, or of a spec with weights.

    Args:
        what: a run's folder, the path of a spec, or the name of a bundled one.
        overrides: the variant, width, ... of a spec.
        weights: a file of weights for a spec.
        random_seed: draws weights for a spec that show its structure and no more.
        last: whether a run has the weights of its last epoch, and not of its best.
        help: what the error advises where a spec has no weights.

    Raises:
        CnnError: the run is incomplete or put together from two, the spec is wrong, its weights are another network's,
            cannot be read or are no finite numbers, or there are none.
    """
    if os.path.isdir(what):
        return open_run(Path(what), last=last)
    net = load_spec(find(what), overrides or Overrides())
    data = DataNote(net.recipe.data or ARRAYS, seed=net.recipe.seed)
    if weights is not None:
        from cnnc.weights.weights_file import load_weights  # random weights want no reader of files

        return Trained(net, load_weights(Path(weights), net.graph)[0], data=data, weights_file=Path(weights))
    if random_seed is None:
        raise CnnError.of(
            "weights",
            f"`{what}` is a spec, and it is not said which weights it has",
            help=help,
        )
    arrays = backends.load("tflite", "random_weights").random_weights(net.graph, random_seed)
    return Trained(net, arrays, data=data, is_random=True)


def open_run(path: Path, *, last: bool = False) -> Trained:
    """The network in a run's folder, with the weights of its best epoch or of its last.

    Raises:
        CnnError: `run` when the folder is no run, is incomplete, or its weights belong to another network; `weights`
            when they cannot be read.
    """
    from cnnc.runs.run_record import graph_hashes, open_record  # YAML is wanted for runs alone
    from cnnc.weights.weights_file import load_weights

    record = open_record(path)
    folder, net, data = record.folder, record.net, record.data
    file = folder.last if last else folder.best
    if not file.is_file():
        instead = not last and folder.last.is_file()
        raise CnnError.of(
            "run",
            f"`{path}` has no weights: `{file.relative_to(path)}` is missing",
            help="its training was stopped in the first epoch; pass `--last` for what it had learnt"
            if instead
            else None,
        )
    _require_class_names(net, data.classes, folder)
    weights, metadata = load_weights(file, net.graph)
    if metadata.get("graph_sha256") not in graph_hashes(net.graph):
        raise CnnError.of(
            "run",
            f"the weights in `{file}` were trained for another network than the run's spec describes",
            notes=[f"they are those of `{metadata.get('model', 'an unknown model')}`"],
            help="a run's folder belongs together: put back the spec.cnn and args.yaml that it was trained with",
        )
    epoch = int(metadata["epoch"]) if metadata.get("epoch", "").isdigit() else 0
    return Trained(net, weights, data.classes, data, folder, epoch, file)


def _require_class_names(net: Net, names: tuple[str, ...], folder: RunFolder) -> None:
    """Raises CnnError for names of classes that are not as many as any output has; one number tells two apart."""
    counts = {max(net.graph[node].shape[-1], 2) for _, node in net.graph.outputs}
    if names and len(names) not in counts:
        has = " or ".join(map(str, sorted(counts)))
        raise CnnError.of(
            "labels",
            f"`{folder.args}` names {len(names)} classes, and `{net.name}` has {has}",
            help="put back the args.yaml that the run wrote",
        )
