"""The neurons."""

from snn_neurons.nodes.adaptive import AdaptiveLIFNode, AdExNode, ComplementaryLIFNode, IzhikevichNode
from snn_neurons.nodes.batch_norm import BatchNormNode
from snn_neurons.nodes.gated import GatedLIFNode
from snn_neurons.nodes.graded import BurstNode, IntegerLIFNode, SignedIFNode, TernaryLIFNode
from snn_neurons.nodes.lif import IFNode, KLIFNode, LIAFNode, LIFNode, ParametricLIFNode
from snn_neurons.nodes.nonlinear import EIFNode, QIFNode
from snn_neurons.nodes.online import OTTTLIFNode, OTTTSequential, SLTTLIFNode, trace_gradient
from snn_neurons.nodes.parallel import PSN, MaskedPSN, SlidingPSN
from snn_neurons.nodes.readout import LeakyIntegrator
from snn_neurons.nodes.recurrent_lif import RecurrentLIFNode
from snn_neurons.nodes.resonate import ResonateAndFireNode
from snn_neurons.nodes.synaptic import AlphaLIFNode, CubaLIFNode, SynapticLIFNode

__all__ = [
    "PSN",
    "AdExNode",
    "AdaptiveLIFNode",
    "AlphaLIFNode",
    "BatchNormNode",
    "BurstNode",
    "ComplementaryLIFNode",
    "CubaLIFNode",
    "EIFNode",
    "GatedLIFNode",
    "IFNode",
    "IntegerLIFNode",
    "IzhikevichNode",
    "KLIFNode",
    "LIAFNode",
    "LIFNode",
    "LeakyIntegrator",
    "MaskedPSN",
    "OTTTLIFNode",
    "OTTTSequential",
    "ParametricLIFNode",
    "QIFNode",
    "RecurrentLIFNode",
    "ResonateAndFireNode",
    "SLTTLIFNode",
    "SignedIFNode",
    "SlidingPSN",
    "SynapticLIFNode",
    "TernaryLIFNode",
    "trace_gradient",
]
