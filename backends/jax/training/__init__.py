"""How jax trains: the step and its state, loss, gradients, optimizer, and what becomes of values that are not finite.

What it hands on is a `cnnc.backends.protocols.TrainingBackend`.
"""

from cnnc.backends.jax.distributed.devices import ONE_DEVICE as ONE_DEVICE
from cnnc.backends.jax.distributed.devices import devices_of as devices_of
from cnnc.backends.jax.init import initialize as initialize
from cnnc.backends.jax.profiling.trace import trace_steps as trace_steps
from cnnc.backends.jax.training.nonfinite import first_nonfinite as first_nonfinite
from cnnc.backends.jax.training.state import first_state as first_state
from cnnc.backends.jax.training.step import evaluation_step as evaluation_step
from cnnc.backends.jax.training.step import training_step as training_step
from cnnc.backends.jax.xla import compilation_cache
from cnnc.backends.jax.xla.allocator import keep_freed_memory as keep_freed_memory
from cnnc.backends.jax.xla.compile import steps_ahead as steps_ahead

enable_compilation_cache = compilation_cache.enable
