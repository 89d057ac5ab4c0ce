"""Local learning rules (STDP and others) for spiking neural networks in PyTorch."""

from snn_learning.__about__ import __version__

__all__ = ["__version__"]
