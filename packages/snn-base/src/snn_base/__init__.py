"""Memory modules, step modes, explicit state and recording for spiking neural networks in PyTorch."""

from snn_base.__about__ import __version__

__all__ = ["__version__"]
