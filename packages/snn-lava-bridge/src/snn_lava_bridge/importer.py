"""From a ``.net`` file back to modules that can be run and trained."""

from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from snn_lava_bridge.blocks import BlockContainer, FlattenBlock, RecurrentBlock
from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.cuba_step import Arithmetic
from snn_lava_bridge.errors import LavaFileError
from snn_lava_bridge.netx_layers import NetxLayer
from snn_lava_bridge.netx_read import read_netx
from snn_lava_bridge.synapse import ConvSynapse, DenseSynapse


def import_netx(
    path: str | PathLike[str], *, scale: int = 64, arithmetic: Arithmetic = "chip", step_mode: Any = "m"
) -> nn.Sequential:
    """The network of a file as blocks, complete or not at all.

    Args:
        path: the ``.net`` file.
        scale: integer weight of 1.0 in the modules; the file does not say. Spikes do not depend on it.
        arithmetic: that of the neurons; ``"chip"`` gives the spikes of `simulate`.
        step_mode: ``"m"`` for ``[T, N, ...]``, ``"s"`` for ``[N, ...]``.

    Raises:
        LavaFileError: the file is no complete network, or holds delays per synapse or weights off the 8-bit grid, which
            no block has.
    """
    network = read_netx(path)
    modules: list[nn.Module] = []
    for layer in network.layers:
        if layer.kind == "flatten":
            modules.append(FlattenBlock())
        elif layer.spiking:
            modules.append(_block(layer, scale, arithmetic, step_mode))
    return nn.Sequential(*modules)


def _block(layer: NetxLayer, scale: int, arithmetic: Arithmetic, step_mode: Any) -> BlockContainer:
    if layer.weight is None or layer.neuron is None:
        raise LavaFileError(f"{layer.name}: weight or neuron is missing")
    for name, weight in (("weight", layer.weight), ("weight_rec", layer.weight_rec)):
        if weight is not None and bool(((weight % 2 != 0) | (weight < -256) | (weight > 254)).any()):
            raise LavaFileError(f"{layer.name}: {name} is not on the blocks' grid, even integers -256 ... 254")
    if layer.delay is not None and layer.delay.dim() != 1:
        raise LavaFileError(f"{layer.name}: delays per synapse have no block; simulate() runs them")
    neuron = CubaLIFNode(
        layer.neuron.i_decay.float() / 4096,
        layer.neuron.v_decay.float() / 4096,
        layer.neuron.v_th_mant / scale,
        scale=scale,
        bias=None if layer.bias is None else layer.bias.float() / scale,
        arithmetic=arithmetic,
        step_mode=step_mode,
    )
    weight = _float(layer.weight, scale)
    if layer.weight_rec is not None:
        if layer.delay is not None and bool(layer.delay.any()):
            raise LavaFileError(f"{layer.name}: delays of a recurrent layer have no block; simulate() runs them")
        recurrent = DenseSynapse(_float(layer.weight_rec, scale))
        return RecurrentBlock(DenseSynapse(weight), recurrent, neuron, step_mode=step_mode)
    if layer.kind == "dense":
        delay = None if layer.delay is None or not bool(layer.delay.any()) else layer.delay.float()
        return BlockContainer(DenseSynapse(weight), neuron, delay=delay, step_mode=step_mode)
    synapse = ConvSynapse(weight, layer.stride, layer.padding, layer.dilation, layer.groups)
    return BlockContainer(synapse, neuron, step_mode=step_mode)


def _float(weight: Tensor, scale: int) -> Tensor:
    return (weight.double() / scale).to(torch.float32)
