"""Conversion of trained networks to spiking ones that are accurate at few time steps."""

from snn_convert.__about__ import __version__
from snn_convert.capture import CaptureError
from snn_convert.conversion import convert
from snn_convert.curve import AccuracyCurve, TargetNotReachedError, accuracy_curve, search_timesteps
from snn_convert.neuron import BurstNeurons, GradedIFNode, GradedNeurons, NeuronFactory
from snn_convert.nir_export import to_nir
from snn_convert.nir_graph import NIRNetwork
from snn_convert.nir_import import from_nir
from snn_convert.nir_units import NIRError
from snn_convert.observers import (
    BalancingObserver,
    BatchPercentileObserver,
    EMAObserver,
    MaxObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    ScaledMaxObserver,
)
from snn_convert.qcfs import QCFS
from snn_convert.recipes import RECIPES, Recipe, braincog, local_threshold_balancing, rate_coding
from snn_convert.report import ConnectionReport, ConversionReport, LayerReport, conversion_report
from snn_convert.spiking_model import SpikingModel
from snn_convert.storage import ModelFileError, load, save
from snn_convert.support import SupportReport, UnsupportedOp, UnsupportedOpsError, check
from snn_convert.verification import LayerError, Verification, verify

__all__ = [
    "QCFS",
    "RECIPES",
    "AccuracyCurve",
    "BalancingObserver",
    "BatchPercentileObserver",
    "BurstNeurons",
    "CaptureError",
    "ConnectionReport",
    "ConversionReport",
    "EMAObserver",
    "GradedIFNode",
    "GradedNeurons",
    "LayerError",
    "LayerReport",
    "MSEObserver",
    "MaxObserver",
    "ModelFileError",
    "NIRError",
    "NIRNetwork",
    "NeuronFactory",
    "Observer",
    "PercentileObserver",
    "Recipe",
    "ScaledMaxObserver",
    "SpikingModel",
    "SupportReport",
    "TargetNotReachedError",
    "UnsupportedOp",
    "UnsupportedOpsError",
    "Verification",
    "__version__",
    "accuracy_curve",
    "braincog",
    "check",
    "conversion_report",
    "convert",
    "from_nir",
    "load",
    "local_threshold_balancing",
    "rate_coding",
    "save",
    "search_timesteps",
    "to_nir",
    "verify",
]
