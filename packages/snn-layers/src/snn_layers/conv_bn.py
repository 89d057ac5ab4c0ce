"""Convolution with batch norm, and folding batch norms into the layers before them."""

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_base import StepModule
from snn_layers.norm import _TemporalEffective, _ThresholdDependent
from snn_layers.stepwise import stepwise

_Conv2d = stepwise(nn.Conv2d)
_BatchNorm2d = stepwise(nn.BatchNorm2d)
_BatchNorm = nn.modules.batchnorm._BatchNorm


def fold_batch_norm(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Return a copy of ``layer`` that does what ``layer`` and then ``norm`` do in evaluation.

    ``W' = g W``, ``b' = g (b - mean) + beta`` with ``g = gamma / sqrt(var + eps)`` (times ``alpha V_th`` for the
    threshold-dependent norm).

    Args:
        layer: convolution, transposed convolution or linear layer of any dims, groups and dilation.
        norm: batch norm with running statistics, affine or not.

    Raises:
        ValueError: the norm keeps no running statistics, or its channels are not the layer's.
    """
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"fold_batch_norm: norm must be a batch norm with running statistics, got {norm!r}")
    fused = copy.deepcopy(layer)
    weight: Any = fused.weight
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if outputs != norm.num_features:
        raise ValueError(f"fold_batch_norm: norm has num_features = {norm.num_features}, the layer {outputs} channels")
    with torch.no_grad():
        g = _gain(norm)
        shift = -norm.running_mean * g
        if norm.bias is not None:
            shift = shift + norm.bias
        if transposed:  # [in, out / groups, ...]: the inputs of each group reach the outputs of the group
            groups: Any = layer.groups
            rows = g.view(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[:2])
            scaled = weight * rows.view(*rows.shape, *[1] * (weight.dim() - 2))
        else:
            scaled = weight * g.view(-1, *[1] * (weight.dim() - 1))
        bias: Any = fused.bias
        fused.weight = nn.Parameter(scaled)
        fused.bias = nn.Parameter(shift if bias is None else bias * g + shift)
    return fused


def _gain(norm: Any) -> Tensor:
    g = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        g = g * norm.weight
    return g * (norm.alpha * norm.v_threshold) if isinstance(norm, _ThresholdDependent) else g


def fuse_conv_bn(net: nn.Module) -> nn.Module:
    """Return a copy of ``net`` in evaluation mode with batch norms folded into the layers before them.

    Folded are neighbours in any ``nn.Sequential``, `ConvBatchNorm2d`, and, where ``torch.fx`` can trace the net, layers
    whose only use is the batch norm. A temporal effective norm leaves its scale per step behind. ``net`` is untouched;
    results are equal to rounding.
    """
    fused = copy.deepcopy(net).eval()
    for parent in list(fused.modules()):
        if isinstance(parent, nn.Sequential):
            names = list(parent._modules)
            for first, second in itertools.pairwise(names):
                _fold_pair(fused, parent, first, parent, second)
    for first_path, second_path in _traced_pairs(fused):
        owner, name = _parent(fused, first_path)
        other, norm = _parent(fused, second_path)
        _fold_pair(fused, owner, name, other, norm)
    for path, module in list(fused.named_modules()):
        if isinstance(module, ConvBatchNorm2d):
            if path == "":
                alone: nn.Module = module.get_fused_conv()
                return alone
            owner, name = _parent(fused, path)
            setattr(owner, name, module.get_fused_conv())
    return fused


def _fold_pair(net: nn.Module, owner: nn.Module, name: str, other: nn.Module, norm_name: str) -> None:
    layer, norm = owner._modules[name], other._modules[norm_name]
    rest: nn.Module = nn.Identity()
    statistics: Any = norm
    if isinstance(norm, _TemporalEffective):
        statistics, rest = norm.bn, norm.scale
    is_layer = isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
    if not is_layer or not isinstance(statistics, _BatchNorm) or statistics.running_mean is None:
        return
    assert layer is not None
    if isinstance(layer, nn.Linear) != isinstance(statistics, nn.BatchNorm1d) and isinstance(layer, nn.Linear):
        return
    uses = [m for _, m in net.named_modules(remove_duplicate=False)]
    if sum(m is layer for m in uses) != 1 or sum(m is norm for m in uses) != 1:
        return  # shared with another place, where it must stay as it is
    owner._modules[name] = fold_batch_norm(layer, statistics)
    other._modules[norm_name] = rest


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StepModule) or super().is_leaf_module(m, module_qualified_name)


def _traced_pairs(net: nn.Module) -> list[tuple[str, str]]:
    try:
        graph = _Tracer().trace(net)
    except Exception:  # forward is beyond torch.fx: only neighbours in Sequential are known
        return []
    calls = [n for n in graph.nodes if n.op == "call_module"]
    once = {n.target for n in calls if sum(m.target == n.target for m in calls) == 1}
    pairs = []
    for node in calls:
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and len(source.users) == 1 and {node.target, source.target} <= once:
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _parent(net: nn.Module, path: str) -> tuple[nn.Module, str]:
    owner, _, name = path.rpartition(".")
    return net.get_submodule(owner), name


class ConvBatchNorm2d(StepModule):
    """A 2-D convolution without bias and then batch norm, whose fused weight and bias can be read and scaled.

    ``y = g (W * x) + beta - g mean``, ``g = gamma / sqrt(var + eps)``: fused weight ``g W``, fused bias
    ``beta - g mean``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode: of ``nn.Conv2d``.
        eps, momentum, affine, track_running_stats: of ``nn.BatchNorm2d``.
        step_mode: ``"s"`` for ``[N, C, H, W]``, ``"m"`` for ``[T, N, C, H, W]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        conv: Any = _Conv2d
        norm: Any = _BatchNorm2d
        self.conv: Any = conv(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, False, padding_mode
        )
        self.bn: Any = norm(out_channels, eps, momentum, affine, track_running_stats)
        for child in (self.conv, self.bn):
            child.step_mode = step_mode
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y

    def get_fused_weight(self) -> Tensor:
        """``g W``, ``[out, in / groups, kH, kW]``."""
        weight: Tensor = self.get_fused_conv().weight.detach()
        return weight

    def get_fused_bias(self) -> Tensor:
        """``beta - g mean``, ``[out]``."""
        bias: Tensor = self.get_fused_conv().bias.detach()
        return bias

    def get_fused_conv(self) -> Any:
        """The convolution with bias that does the same in evaluation.

        Raises:
            ValueError: there are no running statistics.
        """
        return fold_batch_norm(self.conv, self.bn)

    @torch.no_grad()
    def scale_fused_weight(self, k: float | None = None, b: float | None = None) -> None:
        """Change the parameters so that the fused weight becomes ``k g W + b``; ``None`` leaves a factor out."""
        g = _gain(self.bn).view(-1, 1, 1, 1)
        self.conv.weight.copy_(self.conv.weight * (1.0 if k is None else k) + (0.0 if b is None else b) / g)

    @torch.no_grad()
    def scale_fused_bias(self, k: float | None = None, b: float | None = None) -> None:
        """Change the parameters so that the fused bias becomes ``k (beta - g mean) + b``.

        Without ``beta`` (``affine=False``) the running mean takes it.
        """
        wanted = self.get_fused_bias() * (1.0 if k is None else k) + (0.0 if b is None else b)
        g = _gain(self.bn)
        if self.bn.bias is None:
            self.bn.running_mean.copy_(-wanted / g)
        else:
            self.bn.bias.copy_(wanted + g * self.bn.running_mean)
