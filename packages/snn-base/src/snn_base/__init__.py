"""The core that spiking modules share: named memories, step modes, reset, detach and explicit state."""

from snn_base.__about__ import __version__
from snn_base.errors import MemoryDeviceError, MemoryDtypeError, MemoryShapeError, MemoryStateError
from snn_base.functional import functional_call, sequence
from snn_base.memory_module import MemoryModule
from snn_base.net import (
    detach_net,
    load_memory_state,
    memory_modules,
    memory_state,
    named_memories,
    reset_net,
    set_backend,
    set_step_mode,
)
from snn_base.profiling import EnergyModel, LayerProfile, Profile, profile
from snn_base.recorder import Recorder
from snn_base.sequences import checkpoint_sequence, chunked_forward, multi_step_forward, seq_to_ann_forward
from snn_base.statistics import firing_rate, firing_rates, interspike_intervals
from snn_base.step_module import StepMode, StepModule

__all__ = [
    "EnergyModel",
    "LayerProfile",
    "MemoryDeviceError",
    "MemoryDtypeError",
    "MemoryModule",
    "MemoryShapeError",
    "MemoryStateError",
    "Profile",
    "Recorder",
    "StepMode",
    "StepModule",
    "__version__",
    "checkpoint_sequence",
    "chunked_forward",
    "detach_net",
    "firing_rate",
    "firing_rates",
    "functional_call",
    "interspike_intervals",
    "load_memory_state",
    "memory_modules",
    "memory_state",
    "multi_step_forward",
    "named_memories",
    "profile",
    "reset_net",
    "seq_to_ann_forward",
    "sequence",
    "set_backend",
    "set_step_mode",
]
