"""Objects of lava-dl made from modules, where lava-dl is installed; the file needs none of this.

Their inputs and outputs are time-last, ``[N, ..., T]``; see `layout`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from snn_lava_bridge.blocks import BlockContainer, FlattenBlock, RecurrentBlock
from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.errors import LavaExportError, LavaNotInstalledError
from snn_lava_bridge.layout import NXT_to_TNX, TNX_to_NXT
from snn_lava_bridge.pool import SumPool2d, check_lava_pool, pair
from snn_lava_bridge.quantize import quantize_8b
from snn_lava_bridge.surrogate import SlayerPdf
from snn_lava_bridge.synapse import ConvSynapse, DenseSynapse, PoolSynapse

Size = tuple[int, int]


def import_slayer() -> Any:
    """The module ``lava.lib.dl.slayer``.

    Raises:
        LavaNotInstalledError: it cannot be imported here.
    """
    try:
        from lava.lib.dl import slayer
    except ImportError as error:
        raise LavaNotInstalledError(
            f"lava.lib.dl.slayer cannot be imported ({error}). No released lava-dl installs beside a current PyTorch: "
            "put the sources of lava-nc/lava and lava-nc/lava-dl on the path, or use export_netx, simulate and verify, "
            "which do not need it"
        ) from error
    return slayer


def lava_neuron_forward(lava_neuron: Any, x_seq: Tensor) -> Tensor:
    """Spikes ``[T, N, ...]`` of a lava neuron for inputs ``[T, N, ...]``."""
    return NXT_to_TNX(lava_neuron(TNX_to_NXT(x_seq)))


# -- synapses --------------------------------------------------------------------------------------------------------
def linear_to_lava_synapse_dense(fc: nn.Linear | DenseSynapse) -> Any:
    """``slayer.synapse.Dense`` with the weights of ``fc``.

    Raises:
        LavaExportError: ``fc`` has a bias, which slayer's synapses lack.
        LavaNotInstalledError: lava-dl is missing.
    """
    _no_bias(fc, "fc")
    weight = fc.weight.detach()
    synapse = import_slayer().synapse.Dense(weight.shape[1], weight.shape[0])
    return _load(synapse, weight)


def conv2d_to_lava_synapse_conv(conv: nn.Conv2d | ConvSynapse) -> Any:
    """``slayer.synapse.Conv`` with weights and geometry of ``conv``; errors as `linear_to_lava_synapse_dense`."""
    _no_bias(conv, "conv")
    weight = conv.weight.detach()
    options = _conv_options(conv)
    channels = weight.shape[1] * options["groups"]
    synapse = import_slayer().synapse.Conv(channels, weight.shape[0], tuple(weight.shape[2:]), **options)
    return _load(synapse, weight)


def avgpool2d_to_lava_synapse_pool(pool: nn.AvgPool2d | SumPool2d | PoolSynapse, size: Size | None = None) -> Any:
    """``slayer.synapse.Pool`` whose weight is the pool's, ``1 / (kH kW)`` for an average.

    Args:
        pool: the pool.
        size: height and width of the input; checked where given.

    Raises:
        ValueError: a geometry in which lava's pool mixes channels or pads.
        LavaNotInstalledError: lava-dl is missing.
    """
    kernel, stride, value = _pool_geometry(pool, size)
    synapse = import_slayer().synapse.Pool(kernel, stride)
    return _load(synapse, torch.full((1, 1, *kernel), value))


# -- blocks ----------------------------------------------------------------------------------------------------------
def to_lava_block_dense(
    fc: nn.Linear | DenseSynapse, neuron: CubaLIFNode, quantize_to_8bit: bool = True, delay: Tensor | None = None
) -> Any:
    """``slayer.block.cuba.Dense`` of a linear layer and its neurons.

    Args:
        delay: axonal delays ``(C,)``.

    Raises:
        LavaExportError: a bias, or a neuron that slayer cannot hold.
        LavaNotInstalledError: lava-dl is missing.
    """
    synapse = linear_to_lava_synapse_dense(fc)
    rows, columns = fc.weight.shape
    params = neuron_params(neuron, "fc")
    block = import_slayer().block.cuba.Dense(params, columns, rows, delay=delay is not None)
    block.synapse = synapse
    return _finish(block, neuron, quantize_to_8bit, delay, spatial=False)


def to_lava_block_conv(
    conv: nn.Conv2d | ConvSynapse, neuron: CubaLIFNode, quantize_to_8bit: bool = True, delay: Tensor | None = None
) -> Any:
    """``slayer.block.cuba.Conv`` of a convolution and its neurons; arguments and errors as `to_lava_block_dense`."""
    synapse = conv2d_to_lava_synapse_conv(conv)
    weight = conv.weight
    options = _conv_options(conv)
    channels = weight.shape[1] * options["groups"]
    params = neuron_params(neuron, "conv")
    block = import_slayer().block.cuba.Conv(
        params, channels, weight.shape[0], tuple(weight.shape[2:]), delay=delay is not None, **options
    )
    block.synapse = synapse
    return _finish(block, neuron, quantize_to_8bit, delay, spatial=True)


def to_lava_block_pool(
    pool: nn.AvgPool2d | SumPool2d | PoolSynapse,
    neuron: CubaLIFNode,
    quantize_to_8bit: bool = True,
    size: Size | None = None,
) -> Any:
    """``slayer.block.cuba.Pool``; arguments and errors as `avgpool2d_to_lava_synapse_pool`."""
    kernel, stride, _ = _pool_geometry(pool, size)
    synapse = avgpool2d_to_lava_synapse_pool(pool, size)
    block = import_slayer().block.cuba.Pool(neuron_params(neuron, "pool"), kernel, stride)
    block.synapse = synapse
    return _finish(block, neuron, quantize_to_8bit, None, spatial=True)


def to_lava_block_flatten(flatten: nn.Flatten | FlattenBlock) -> Any:
    """``slayer.block.cuba.Flatten``.

    Raises:
        TypeError: ``flatten`` is no flatten layer.
        LavaNotInstalledError: lava-dl is missing.
    """
    if not isinstance(flatten, nn.Flatten | FlattenBlock):
        raise TypeError(f"flatten must be nn.Flatten or FlattenBlock, got {type(flatten).__name__}")
    return import_slayer().block.cuba.Flatten()


def to_lava_blocks(net: nn.Sequential, quantize_to_8bit: bool = True) -> nn.Sequential:
    """The blocks of lava-dl for a sequence of blocks, or of layers each followed by its `CubaLIFNode`.

    Raises:
        LavaExportError: a layer without a counterpart; its name is given.
        LavaNotInstalledError: lava-dl is missing.
    """
    children = list(net.named_children())
    blocks: list[nn.Module] = []
    position = 0
    while position < len(children):
        name, module = children[position]
        position += 1
        if isinstance(module, nn.Flatten | FlattenBlock):
            blocks.append(to_lava_block_flatten(module))
            continue
        delay = None
        if isinstance(module, RecurrentBlock) or (isinstance(module, BlockContainer) and module.norm is not None):
            raise LavaExportError(f"{name}: recurrent or normalised blocks have no object here; use export_netx")
        if isinstance(module, BlockContainer):
            part, neuron, delay = module.synapse, module.neuron, module.delay.delay
        else:
            following = children[position][1] if position < len(children) else None
            if not isinstance(following, CubaLIFNode):
                raise LavaExportError(f"{name}: a {type(module).__name__} must be followed by its CubaLIFNode")
            part, neuron = module, following  # type: ignore[assignment]
            position += 1
        if isinstance(part, nn.Linear | DenseSynapse):
            blocks.append(to_lava_block_dense(part, neuron, quantize_to_8bit, delay))
        elif isinstance(part, nn.Conv2d | ConvSynapse):
            blocks.append(to_lava_block_conv(part, neuron, quantize_to_8bit, delay))
        elif isinstance(part, nn.AvgPool2d | SumPool2d | PoolSynapse):
            blocks.append(to_lava_block_pool(part, neuron, quantize_to_8bit))
        else:
            raise LavaExportError(f"{name}: a {type(part).__name__} has no lava block")
    return nn.Sequential(*blocks)


# -- parts -----------------------------------------------------------------------------------------------------------
def neuron_params(neuron: CubaLIFNode, name: str) -> dict[str, Any]:
    """Constructor arguments of ``slayer.neuron.cuba.Neuron`` for a neuron, learned decays included.

    Raises:
        LavaExportError: a bias, or a norm, which this route does not carry.
    """
    if neuron.norm is not None or neuron.chip_bias() is not None:
        raise LavaExportError(f"{name}: bias and norm have no place in slayer's block; use export_netx")
    surrogate = neuron.surrogate if isinstance(neuron.surrogate, SlayerPdf) else SlayerPdf()
    return {
        "threshold": neuron.v_threshold,
        "current_decay": float(torch.as_tensor(neuron.current_decay).detach().flatten()[0]),
        "voltage_decay": float(torch.as_tensor(neuron.voltage_decay).detach().flatten()[0]),
        "scale": neuron.scale,
        "requires_grad": isinstance(neuron.current_decay, nn.Parameter),
        "graded_spike": neuron.graded_spike,
        "tau_grad": surrogate.tau_grad,
        "scale_grad": surrogate.scale_grad,
    }


def _finish(block: Any, neuron: CubaLIFNode, quantize_to_8bit: bool, delay: Tensor | None, *, spatial: bool) -> Any:
    for ours, theirs in (
        (neuron.current_decay, block.neuron.current_decay),
        (neuron.voltage_decay, block.neuron.voltage_decay),
    ):
        decay = torch.as_tensor(ours).detach().flatten().float()
        if spatial and decay.numel() > 1:
            raise LavaExportError("slayer aligns decays per channel with the width of an image; use export_netx")
        theirs.data = decay * neuron.p_scale
    if quantize_to_8bit:
        scale = neuron.scale
        block.synapse.pre_hook_fx = lambda weight, descale=False: quantize_8b(weight, scale, descale)
    if delay is not None:
        block.delay.delay.data = delay.detach().clone().float()
        block.delay.init = True
    return block


def _load(synapse: Any, weight: Tensor) -> Any:
    synapse.weight.data = weight.detach().clone().float().reshape(synapse.weight.shape)
    return synapse


def _no_bias(module: nn.Module, name: str) -> None:
    if getattr(module, "bias", None) is not None:
        raise LavaExportError(f"{name} has a bias, which synapses of lava-dl lack; build it with bias=False")


def _conv_options(conv: nn.Conv2d | ConvSynapse) -> dict[str, Any]:
    if isinstance(conv, nn.Conv2d) and (conv.padding_mode != "zeros" or isinstance(conv.padding, str)):
        raise LavaExportError(
            f"conv has padding={conv.padding!r}, padding_mode={conv.padding_mode!r}; give zero padding in numbers"
        )
    return {n: getattr(conv, n) for n in ("stride", "padding", "dilation", "groups")}


def _pool_geometry(pool: nn.AvgPool2d | SumPool2d | PoolSynapse, size: Size | None) -> tuple[Size, Size, float]:
    kernel = pair(pool.kernel_size, "kernel_size", 1)
    stride = kernel if pool.stride is None else pair(pool.stride, "stride", 1)
    padding = pair(pool.padding, "padding", 0)
    dilation = pair(getattr(pool, "dilation", 1), "dilation", 1)
    check_lava_pool(kernel if size is None else size, kernel, stride, padding, dilation)
    if isinstance(pool, nn.AvgPool2d):
        return kernel, stride, 1.0 / (pool.divisor_override or kernel[0] * kernel[1])
    return kernel, stride, float(pool.weight.flatten()[0]) if isinstance(pool, PoolSynapse) else 1.0
