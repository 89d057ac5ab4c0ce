"""What can be converted, and a complete list of what cannot."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from snn_convert.capture import capture, module_path, source_line

# Linear or affine in the data for each sample, or moving it about: done at every step as it is.
_AFFINE = {
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_native_batch_norm_legit_no_training", "_to_copy", "_unsafe_view",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "add", "addmm", "alias", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "batch_norm", "cat", "channel_shuffle", "chunk", "clone", "concat", "constant_pad_nd",
    "contiguous", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution", "cudnn_batch_norm", "detach", "expand", "flatten", "flip", "getitem", "linear", "mean", "movedim",
    "narrow", "native_batch_norm", "neg", "pad", "permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "reshape",
    "roll", "select", "slice", "split", "split_with_sizes", "squeeze", "stack", "sub", "sum", "t", "to", "transpose",
    "unbind", "unfold", "unflatten", "unsqueeze", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d", "view", "zero_pad2d",
}  # fmt: skip
# Linear as long as only one factor depends on the data.
_PRODUCTS = {"mul", "div", "matmul", "mm", "bmm", "einsum"}
_DROPOUT = {"alpha_dropout", "dropout", "feature_alpha_dropout", "feature_dropout", "native_dropout"}
_MAXIMUM = {
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "max_pool1d", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices",
}  # fmt: skip
_RELU = {"relu", "relu6", "hardtanh", "clamp", "clamp_min", "threshold", "qcfs"}
_ADVICE = {
    "gelu": "train with ReLU",
    "silu": "train with ReLU",
    "hardswish": "train with ReLU or ReLU6",
    "hardsigmoid": "drop the gate, or train with clipped ReLU",
    "leaky_relu": "train with ReLU",
    "elu": "train with ReLU",
    "prelu": "train with ReLU",
    "sigmoid": "leave it out of the model and apply it to the output",
    "tanh": "train with ReLU, or hardtanh(0, 1)",
    "softmax": "leave it out of the model and apply it to the output",
    "log_softmax": "leave it out of the model and apply it to the output",
    "layer_norm": "use BatchNorm, which is affine in inference",
    "native_layer_norm": "use BatchNorm, which is affine in inference",
    "group_norm": "use BatchNorm, which is affine in inference",
    "native_group_norm": "use BatchNorm, which is affine in inference",
    "scaled_dot_product_attention": "attention multiplies two activations; use a convolutional network",
    "mul": "only one factor may depend on the data; replace the gate by a convolution",
    "matmul": "only one factor may depend on the data",
    "max": "use max pooling or torch.amax",
}


@dataclass(frozen=True)
class UnsupportedOp:
    """One operation that has no spiking counterpart.

    Attributes:
        op: name of the operation.
        module: path of the module that called it.
        source: ``file:line`` of the call.
        reason: why, and what could replace it.
    """

    op: str
    module: str
    source: str
    reason: str

    def __str__(self) -> str:
        where = " at ".join(part for part in (self.module or "the model", self.source) if part)
        return f"{self.op} in {where}: {self.reason}"


@dataclass(frozen=True)
class SupportReport:
    """What `check` found.

    Attributes:
        unsupported: every operation that cannot be converted; empty if the model can.
        activations: module paths of the activations that become neurons, in order of execution.
        maxima: module paths of the maximum poolings.
    """

    unsupported: tuple[UnsupportedOp, ...]
    activations: tuple[str, ...]
    maxima: tuple[str, ...]

    @property
    def supported(self) -> bool:
        """Whether the model can be converted."""
        return not self.unsupported

    def __str__(self) -> str:
        if self.supported:
            return f"can be converted: {len(self.activations)} activations, {len(self.maxima)} maximum poolings"
        return "cannot be converted:\n" + "\n".join(f"  - {op}" for op in self.unsupported)


class UnsupportedOpsError(ValueError):
    """The model has operations without a spiking counterpart; ``report`` lists all of them."""

    def __init__(self, report: SupportReport) -> None:
        super().__init__(f"the model {report}")
        self.report = report


def check(model: nn.Module | ExportedProgram, example: Tensor) -> SupportReport:
    """List all operations of ``model`` that cannot be converted, before any calibration.

    Args:
        model: a model in any mode; it is left untouched.
        example: an input ``[N, ...]``.

    Raises:
        CaptureError: the model cannot be traced at all.
    """
    return check_graph(capture(model, example))


def check_graph(module: fx.GraphModule) -> SupportReport:
    """`check` of a captured graph."""
    data = data_nodes(module)
    batch = _batch(module)
    faults, activations, maxima = [], [], []
    for node in module.graph.nodes:
        if node not in data or node.op != "call_function":
            continue
        kind, reason = classify(node, data)
        if not reason and _moves_batch(node, batch):
            reason = "it moves, mixes or fixes the batch dimension, which must stay the first"
        if reason:
            faults.append(UnsupportedOp(op_name(node), module_path(node), source_line(node), reason))
        elif kind == "activation":
            activations.append(module_path(node) or node.name)
        elif kind == "maximum":
            maxima.append(module_path(node) or node.name)
    if not activations and not faults:
        reason = "there is no ReLU-like activation, so nothing would become a neuron"
        faults.append(UnsupportedOp("the model", "", "", reason))
    return SupportReport(tuple(faults), tuple(activations), tuple(maxima))


def op_name(node: fx.Node) -> str:
    """Name of the operation without its overload and in-place mark, for example ``conv2d``."""
    packet = getattr(node.target, "overloadpacket", None)
    name = packet.__name__ if packet is not None else getattr(node.target, "__name__", str(node.target))
    return str(name).removesuffix("_")


def data_nodes(module: fx.GraphModule) -> set[fx.Node]:
    """Nodes whose tensor value depends on the input's values."""
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        symbolic = isinstance(node.meta.get("val"), int | torch.SymInt)
        if node.op == "placeholder" or (
            node.op == "call_function" and not symbolic and data & set(node.all_input_nodes)
        ):
            data.add(node)
    return data


def classify(node: fx.Node, data: set[fx.Node]) -> tuple[str, str]:
    """Kind of an operation (``affine``, ``dropout``, ``maximum``, ``activation``) and the reason where it has none."""
    name = op_name(node)
    advice = _ADVICE.get(name, "there is no spiking counterpart")
    if name in _DROPOUT:
        return "dropout", ""
    if name in _RELU:
        bounds = activation_bounds(node)
        if bounds is None:
            return "", f"its range {node.args[1:]} does not start at 0; use ReLU or a clip from 0"
        return "activation", ""
    if name in _MAXIMUM:
        return "maximum", ""
    if name in _PRODUCTS:
        dependent = [a for a in node.args if isinstance(a, fx.Node) and a in data]
        second = len(node.args) > 1 and isinstance(node.args[1], fx.Node) and node.args[1] in data
        return ("affine", "") if len(dependent) == 1 and not (name == "div" and second) else ("", advice)
    if name in _AFFINE:
        return "affine", ""
    return "", advice


def activation_bounds(node: fx.Node) -> tuple[float, float | None] | None:
    """``(0, upper)`` of a clip that starts at 0, with ``None`` for no upper bound; ``None`` for any other clip."""
    name, args = op_name(node), node.args
    low: Any = 0.0
    high: Any = None
    if name == "relu6":
        high = 6.0
    elif name == "hardtanh":
        low, high = (args[1] if len(args) > 1 else -1.0), (args[2] if len(args) > 2 else 1.0)
    elif name == "clamp":
        low = args[1] if len(args) > 1 else node.kwargs.get("min")
        high = args[2] if len(args) > 2 else node.kwargs.get("max")
    elif name == "clamp_min":
        low = args[1]
    elif name == "threshold" and tuple(args[1:3]) != (0, 0):
        return None
    if isinstance(low, fx.Node) or isinstance(high, fx.Node) or low != 0 or (high is not None and high <= 0):
        return None
    return 0.0, None if high is None else float(high)


def _batch(module: fx.GraphModule) -> Any:
    for node in module.graph.nodes:
        if node.op == "placeholder":
            return node.meta["val"].shape[0]
    return None


def _moves_batch(node: fx.Node, batch: Any) -> bool:
    value = node.meta.get("val")  # of several results, those that are used have nodes of their own
    return isinstance(value, Tensor) and (value.dim() == 0 or str(value.shape[0]) != str(batch))
