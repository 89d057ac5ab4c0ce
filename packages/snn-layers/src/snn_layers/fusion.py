"""Batch norms folded into the convolutions before them, for inference."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from snn_base import StepModule
from snn_layers._pairs import find_pairs
from snn_layers.norm import StepScale, _TemporalEffective, _ThresholdDependent

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fuse_conv_bn(net: nn.Module) -> nn.Module:
    """Return a copy of ``net`` in evaluation mode whose batch norms are folded into the layers before them.

    ``W' = W s``, ``b' = (b - mean) s + beta`` per output channel with ``s = gamma / sqrt(var + eps)``, times
    ``alpha V_th`` for the threshold-dependent norms. A temporal effective norm leaves its factor per step,
    ``p[t] (W' x + b')``. Pairs of a Conv, ConvTranspose or Linear layer of any dims and a norm of running statistics are
    found by the order of execution (traced) and, where a net cannot be traced, as neighbours in a Sequential. A layer
    that is used twice, or whose output goes elsewhere too, is left alone, and so is a norm per step (BNTT).
    A Linear layer is taken to be fed ``[N, features]``.

    Args:
        net: any module; it is not changed.

    Raises:
        TypeError: ``net`` is no module.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"fuse_conv_bn: net must be a torch.nn.Module, got {type(net).__name__}")
    fused = deepcopy(net).eval()
    for conv_name, norm_name in find_pairs(fused):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        _replace(fused, conv_name, fuse_pair(conv, norm))
        rest: nn.Module = nn.Identity()
        if isinstance(norm, _TemporalEffective):
            rest = StepScale(norm.scale.p.detach(), step_mode=norm.step_mode)
        _replace(fused, norm_name, rest.eval())
    return fused


@torch.no_grad()
def fuse_pair(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """Return a copy of ``conv`` that computes ``norm(conv(x))`` from the running statistics of ``norm``.

    For a temporal effective norm that is its result before the factor per step.
    """
    fused: Any = deepcopy(conv)
    scale, shift = affine_of(norm)
    weight = fused.weight.double()
    if isinstance(fused, _TRANSPOSED):
        # [in, out / groups, ...]: the group is a slice of the input dim
        grouped = weight.unflatten(0, (fused.groups, -1))
        factor = scale.view(fused.groups, 1, -1, *[1] * (weight.dim() - 2))
        new_weight = (grouped * factor).flatten(0, 1)
    else:
        new_weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    bias = shift if fused.bias is None else fused.bias.double() * scale + shift
    trainable = fused.weight.requires_grad
    fused.weight = nn.Parameter(new_weight.to(fused.weight), requires_grad=trainable)
    fused.bias = nn.Parameter(bias.to(fused.weight), requires_grad=trainable)
    return fused


def affine_of(norm: Any) -> tuple[Tensor, Tensor]:
    """Return the float64 ``scale [C]`` and ``shift [C]`` that ``norm`` applies in evaluation."""
    if isinstance(norm, _TemporalEffective):
        norm = norm.bn
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = torch.rsqrt(var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    if isinstance(norm, _ThresholdDependent):
        scale = scale * (norm.alpha * norm.v_threshold)
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = net.get_submodule(parent)
    old = owner.get_submodule(leaf)
    if isinstance(old, StepModule) and isinstance(module, StepModule):
        module.step_mode = old.step_mode
    setattr(owner, leaf, module)
