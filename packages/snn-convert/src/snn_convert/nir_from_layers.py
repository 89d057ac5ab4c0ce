"""The NIR node of each layer without neurons."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from snn_convert.nir_layers import Delay, Scale, SumPool2d, Threshold
from snn_convert.nir_units import load_nir, spread


def layer_node(
    module: nn.Module, shape: tuple[int, ...], after: tuple[int, ...], dt: float, problems: list[str]
) -> Any | None:
    """The node of ``module``, ``None`` if NIR has none; what NIR lacks is appended to ``problems``.

    Args:
        module: a layer.
        shape, after: of one sample before and after it.
        dt: seconds of one step.
        problems: what cannot be expressed, a sentence each.
    """
    nir = load_nir()
    node: Any = None
    if isinstance(module, nn.Linear):
        node = linear_node(module.weight, module.bias, shape, problems)
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        options = {k: getattr(module, k) for k in ("stride", "padding", "dilation", "groups", "padding_mode")}
        node = conv_node(module.weight, module.bias, shape, problems, **options)
    elif isinstance(module, nn.AvgPool2d):
        node = pool_node("AvgPool2d", module, problems)
    elif isinstance(module, SumPool2d):
        node = pool_node("SumPool2d", module, problems)
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        node = adaptive_node(shape, after, problems)
    elif isinstance(module, nn.Flatten):
        if module.start_dim == 0 or (module.end_dim == 0):
            problems.append("flattening the batch")
        start, end = (d - 1 if d > 0 else d for d in (module.start_dim, module.end_dim))
        start = start if start >= 0 else start + len(shape)
        node = nir.Flatten({"input": np.array(shape)}, start, end)
    elif isinstance(module, Delay):
        node = nir.Delay(spread(module.steps, shape) * dt)
    elif isinstance(module, Scale):
        node = nir.Scale(spread(module.scale, shape))
    elif isinstance(module, Threshold):
        node = nir.Threshold(spread(module.threshold, shape))
    if node is not None:
        # nir infers other sizes for groups and for kernels that are not square.
        node.input_type = {"input": np.array(shape)}
        node.output_type = {"output": np.array(after)}
    return node


def linear_node(weight: Tensor, bias: Tensor | None, shape: tuple[int, ...], problems: list[str]) -> Any:
    """Linear, or Affine with a bias."""
    nir = load_nir()
    if len(shape) != 1:
        problems.append(f"a linear map of the last of {len(shape)} dims: NIR's takes [features]; flatten first")
    return nir.Linear(_array(weight)) if bias is None else nir.Affine(_array(weight), _array(bias))


def conv_node(
    weight: Tensor,
    bias: Tensor | None,
    shape: tuple[int, ...],
    problems: list[str],
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str = "zeros",
) -> Any:
    """Conv1d or Conv2d; NIR's always have a bias, zeros where there is none."""
    nir = load_nir()
    dims = weight.dim() - 2
    if padding_mode != "zeros":
        problems.append(f"padding_mode={padding_mode!r}: NIR pads with zeros")
    if dims == 1:
        stride, padding, dilation = (v if isinstance(v, str | int) else int(v[0]) for v in (stride, padding, dilation))
    else:
        both = (v if isinstance(v, str) else tuple(np.broadcast_to(v, 2).tolist()) for v in (stride, padding, dilation))
        stride, padding, dilation = both
    size: Any = int(shape[1]) if dims == 1 else tuple(shape[1:])
    values = np.zeros(len(weight), np.float32) if bias is None else _array(bias)
    metadata = {"bias": "none"} if bias is None else {}
    kind = nir.Conv1d if dims == 1 else nir.Conv2d
    return kind(size, _array(weight), stride, padding, dilation, int(groups), values, metadata=metadata)


def pool_node(kind: str, module: Any, problems: list[str]) -> Any:
    """SumPool2d or AvgPool2d."""
    nir = load_nir()
    padding = np.broadcast_to(np.array(module.padding), 2)
    if getattr(module, "ceil_mode", False):
        problems.append("ceil_mode: NIR has no such pooling")
    if getattr(module, "divisor_override", None) is not None:
        problems.append("divisor_override: use SumPool2d and Scale")
    if padding.any() and not getattr(module, "count_include_pad", True):
        problems.append("count_include_pad=False: NIR does not say how padding is averaged")
    kernel, stride = (np.array(np.broadcast_to(np.array(v), 2)) for v in (module.kernel_size, module.stride))
    return getattr(nir, kind)(kernel_size=kernel, stride=stride, padding=np.array(padding))


def adaptive_node(shape: tuple[int, ...], after: tuple[int, ...], problems: list[str]) -> Any:
    """The AvgPool2d with equal windows."""
    nir = load_nir()
    if any(a % b for a, b in zip(shape[1:], after[1:], strict=True)):
        problems.append(f"adaptive pooling from {shape[1:]} to {after[1:]}: its windows differ in size")
    kernel = np.array([a // b for a, b in zip(shape[1:], after[1:], strict=True)])
    return nir.AvgPool2d(kernel_size=kernel, stride=kernel.copy(), padding=np.array([0, 0]))


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()
