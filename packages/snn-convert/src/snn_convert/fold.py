"""Batch normalisation folded into the convolution or linear layer before it."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_convert.support import op_name

_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "linear"}
_TRANSPOSED = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_NORMS = {"_native_batch_norm_legit_no_training", "batch_norm", "cudnn_batch_norm", "native_batch_norm"}


def fold_batch_norm(network: fx.GraphModule) -> int:
    """Fold, in place, every BatchNorm whose input is a convolution or linear layer that nothing else uses.

    ``W' = W g / sqrt(var + eps)``, ``b' = (b - mean) g / sqrt(var + eps) + beta``; pairs are found by the flow of data.
    Returns how many were folded.
    """
    folded = 0
    for node in list(network.graph.nodes):
        if node.op != "call_function" or op_name(node) not in _NORMS:
            continue
        layer = node.args[0]
        if layer.op != "call_function" or len(layer.users) != 1 or op_name(layer) not in _CONVOLUTIONS | _TRANSPOSED:
            continue
        if not all(isinstance(a, fx.Node) and a.op == "get_attr" for a in layer.args[1:2]):
            continue
        if op_name(layer) == "linear" and layer.meta["val"].dim() != 2:
            continue  # of [N, C, F] it makes features in the last dim, and the norm is of the second
        _fold(network, layer, node)
        folded += 1
    network.graph.eliminate_dead_code()
    network.recompile()
    return folded


def _fold(network: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> None:
    gamma, beta, mean, var = (constant(network, a) for a in norm.args[1:5])
    eps = next(a for a in reversed(norm.args) if isinstance(a, float))  # the last float of every form
    assert mean is not None
    assert var is not None
    scale = (var + eps).rsqrt() * (1.0 if gamma is None else gamma)
    weight = constant(network, layer.args[1])
    assert weight is not None
    bias = constant(network, layer.args[2]) if len(layer.args) > 2 else None
    shift = (0.0 if bias is None else bias) * scale - mean * scale + (0.0 if beta is None else beta)
    if op_name(layer) in _TRANSPOSED:
        groups = layer.args[6] if len(layer.args) > 6 else 1
        assert isinstance(groups, int)
        inputs, outputs = weight.shape[:2]
        factor = scale.view(groups, 1, outputs).expand(groups, inputs // groups, outputs).reshape(inputs, outputs)
        weight = weight * factor.view(inputs, outputs, *([1] * (weight.dim() - 2)))
    else:
        weight = weight * scale.view(-1, *([1] * (weight.dim() - 1)))
    with network.graph.inserting_before(layer):
        nodes = []
        for name, value in (("weight", weight), ("bias", shift)):
            attribute = f"{layer.name}_{name}_folded"
            network.register_parameter(attribute, nn.Parameter(value.detach()))
            nodes.append(network.graph.get_attr(attribute))
    layer.args = (layer.args[0], *nodes, *layer.args[3:])
    outputs_of_norm = [norm] if isinstance(norm.meta.get("val"), Tensor) else list(norm.users)
    for result in outputs_of_norm:
        if result is norm or result.args[1] == 0:
            result.replace_all_uses_with(layer)
    for dead in (*outputs_of_norm, norm):  # now, so that a second norm sees the layer with one user less
        if not dead.users and not dead._erased:
            network.graph.erase_node(dead)


def constant(network: fx.GraphModule, argument: Any) -> Tensor | None:
    """The tensor behind a ``get_attr`` node; ``None`` for anything else."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    value: Any = network
    for part in str(argument.target).split("."):
        value = getattr(value, part)
    return torch.as_tensor(value).detach()
