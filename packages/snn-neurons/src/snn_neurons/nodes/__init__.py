"""The neurons."""

from snn_neurons.nodes.if_node import IFNode
from snn_neurons.nodes.lif_node import LIFNode

__all__ = ["IFNode", "LIFNode"]
