"""From a spiking PyTorch network to a Loihi 2 netx file, exact to the bit, without lava installed."""

from snn_lava_bridge.__about__ import __version__
from snn_lava_bridge.arithmetic import right_shift_to_zero
from snn_lava_bridge.blocks import (
    BlockContainer,
    FlattenBlock,
    RecurrentBlock,
    ScaleChoice,
    choose_scales,
    conv_block,
    dense_block,
    pool_block,
    recurrent_block,
)
from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.cuba_step import leaky_integrator
from snn_lava_bridge.delay import StepDelay
from snn_lava_bridge.errors import LavaExportError, LavaFileError, LavaNotInstalledError
from snn_lava_bridge.export import ExportReport, export_netx
from snn_lava_bridge.importer import import_netx
from snn_lava_bridge.lava_objects import (
    avgpool2d_to_lava_synapse_pool,
    conv2d_to_lava_synapse_conv,
    lava_neuron_forward,
    linear_to_lava_synapse_dense,
    to_lava_block_conv,
    to_lava_block_dense,
    to_lava_block_flatten,
    to_lava_block_pool,
    to_lava_blocks,
)
from snn_lava_bridge.layout import NXT_to_TNX, TNX_to_NXT
from snn_lava_bridge.lint import Finding, lint
from snn_lava_bridge.netx_layers import NetxLayer, NetxNetwork, NetxNeuron, describe
from snn_lava_bridge.netx_read import read_netx
from snn_lava_bridge.netx_write import write_netx
from snn_lava_bridge.norm import BatchNorm2d, MeanOnlyBatchNorm, fold_batch_norm
from snn_lava_bridge.pool import SumPool2d
from snn_lava_bridge.quantize import integer_weights, quantize_8b, quantize_hook, step_floor, step_quantize
from snn_lava_bridge.simulate import LayerActivity, simulate, simulate_layers
from snn_lava_bridge.surrogate import SlayerPdf
from snn_lava_bridge.synapse import ConvSynapse, DenseSynapse, PoolSynapse, Synapse
from snn_lava_bridge.verify import Divergence, VerifyReport, run_netx, verify

__all__ = [
    "BatchNorm2d",
    "BlockContainer",
    "ConvSynapse",
    "CubaLIFNode",
    "DenseSynapse",
    "Divergence",
    "ExportReport",
    "Finding",
    "FlattenBlock",
    "LavaExportError",
    "LavaFileError",
    "LavaNotInstalledError",
    "LayerActivity",
    "MeanOnlyBatchNorm",
    "NXT_to_TNX",
    "NetxLayer",
    "NetxNetwork",
    "NetxNeuron",
    "PoolSynapse",
    "RecurrentBlock",
    "ScaleChoice",
    "SlayerPdf",
    "StepDelay",
    "SumPool2d",
    "Synapse",
    "TNX_to_NXT",
    "VerifyReport",
    "__version__",
    "avgpool2d_to_lava_synapse_pool",
    "choose_scales",
    "conv2d_to_lava_synapse_conv",
    "conv_block",
    "dense_block",
    "describe",
    "export_netx",
    "fold_batch_norm",
    "import_netx",
    "integer_weights",
    "lava_neuron_forward",
    "leaky_integrator",
    "linear_to_lava_synapse_dense",
    "lint",
    "pool_block",
    "quantize_8b",
    "quantize_hook",
    "read_netx",
    "recurrent_block",
    "right_shift_to_zero",
    "run_netx",
    "simulate",
    "simulate_layers",
    "step_floor",
    "step_quantize",
    "to_lava_block_conv",
    "to_lava_block_dense",
    "to_lava_block_flatten",
    "to_lava_block_pool",
    "to_lava_blocks",
    "verify",
    "write_netx",
]
