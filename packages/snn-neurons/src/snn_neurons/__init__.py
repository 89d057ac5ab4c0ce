"""Spiking neurons and surrogate gradients for PyTorch, with fused kernels made from one step function."""

from snn_neurons.__about__ import __version__

__all__ = ["__version__"]
