"""Containers, recurrence, normalisation, dropout, pooling and encoders for spiking neural networks in PyTorch."""

from snn_layers import stateless as _stateless
from snn_layers.__about__ import __version__
from snn_layers.containers import MultiStep, SpikingSequential, TimeFold
from snn_layers.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from snn_layers.stateless import *
from snn_layers.stepwise import stepwise

__all__ = [
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "MultiStep",
    "SpikingSequential",
    "TimeFold",
    "__version__",
    "stepwise",
]
__all__ += _stateless.__all__
