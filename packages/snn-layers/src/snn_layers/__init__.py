"""Containers, recurrence, normalisation, dropout, pooling and encoders for spiking neural networks in PyTorch."""

from snn_layers.__about__ import __version__

__all__ = ["__version__"]
