"""Containers, recurrence, normalisation, dropout, pooling and encoders for spiking neural networks in PyTorch."""

from snn_layers import stateless as _stateless
from snn_layers.__about__ import __version__
from snn_layers.attention import SpikingAttentionBlock, SpikingSelfAttention
from snn_layers.bntt import BNTT1d, BNTT2d, BNTT3d
from snn_layers.containers import MultiStep, SpikingSequential, TimeFold
from snn_layers.conv_bn import ConvBatchNorm2d, fold_batch_norm, fuse_conv_bn
from snn_layers.dct import DCT2d
from snn_layers.decoding import FirstSpikeDecoder, MaxMembraneDecoder, PrintShape, RateDecoder, VotingLayer, WTALayer
from snn_layers.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from snn_layers.encoding import DeltaEncoder, LatencyEncoder, PoissonEncoder, RepeatEncoder, WeightedPhaseEncoder
from snn_layers.linear import AXAT, DropConnectLinear, MaskedLinear
from snn_layers.neunorm import NeuNorm
from snn_layers.norm import (
    LayerNorm,
    StepScale,
    TemporalEffectiveBatchNorm1d,
    TemporalEffectiveBatchNorm2d,
    TemporalEffectiveBatchNorm3d,
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)
from snn_layers.pooling import ChannelPool, LIPool, SpikeMaxPool
from snn_layers.recurrent import ElementwiseRecurrent, LinearRecurrent
from snn_layers.stateless import *  # noqa: F403  the layers of torch.nn, listed there
from snn_layers.stepwise import stepwise
from snn_layers.synapse import SynapseFilter

__all__ = [
    "AXAT",
    "BNTT1d",
    "BNTT2d",
    "BNTT3d",
    "ChannelPool",
    "ConvBatchNorm2d",
    "DCT2d",
    "DeltaEncoder",
    "DropConnectLinear",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "ElementwiseRecurrent",
    "FirstSpikeDecoder",
    "LIPool",
    "LatencyEncoder",
    "LayerNorm",
    "LinearRecurrent",
    "MaskedLinear",
    "MaxMembraneDecoder",
    "MultiStep",
    "NeuNorm",
    "PoissonEncoder",
    "PrintShape",
    "RateDecoder",
    "RepeatEncoder",
    "SpikeMaxPool",
    "SpikingAttentionBlock",
    "SpikingSelfAttention",
    "SpikingSequential",
    "StepScale",
    "SynapseFilter",
    "TemporalEffectiveBatchNorm1d",
    "TemporalEffectiveBatchNorm2d",
    "TemporalEffectiveBatchNorm3d",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
    "TimeFold",
    "VotingLayer",
    "WTALayer",
    "WeightedPhaseEncoder",
    "__version__",
    "fold_batch_norm",
    "fuse_conv_bn",
    "stepwise",
]
__all__ += _stateless.__all__
