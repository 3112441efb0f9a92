"""The jax backend is what training asks of a backend: the type checker holds it to the Protocols."""

from __future__ import annotations

import subprocess
import sys

from cnnc.backends.jax import training
from cnnc.backends.jax.distributed import processes
from cnnc.backends.jax.distributed.devices import Devices
from cnnc.backends.jax.training.state import State
from cnnc.backends.protocols import ProcessGroup, TrainingBackend, load_training

BACKEND: TrainingBackend[Devices, State] = training


def group_of(group: processes.Group) -> ProcessGroup:
    return group


def test_training_is_reached_by_its_backends_name() -> None:
    assert load_training() is BACKEND


def test_importing_it_leaves_jax_unstarted() -> None:
    """How many devices there are, and how memory is kept, is decided later."""
    code = "import cnnc.backends.jax.training; from jax._src import xla_bridge; assert not xla_bridge._backends"
    subprocess.run([sys.executable, "-c", code], check=True)
