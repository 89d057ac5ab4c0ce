"""Conversion of trained PyTorch networks to spiking networks, and exchange through NIR."""

from snn_convert.__about__ import __version__

__all__ = ["__version__"]
