"""Spiking neurons from one step function each, run by fused kernels."""

from snn_neurons.__about__ import __version__
from snn_neurons.nodes import IFNode, LIFNode
from snn_neurons.spiking_node import SpikingNode
from snn_neurons.step_node import StepNode
from snn_neurons.surrogates import ATan, Surrogate

__all__ = ["ATan", "IFNode", "LIFNode", "SpikingNode", "StepNode", "Surrogate", "__version__"]
