"""Synapses whose weight gradient is taken with a presynaptic trace: online training through time (OTTT)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from snn_base import MemoryModule
from snn_learning.functional.geometry import ConvGeometry
from snn_learning.synapse import Synapse, describe_synapse, find_synapse


class OTTTSynapse(MemoryModule):
    """Wraps a synapse so that each step's gradient reaches into the past by a trace, without a graph over time.

    ::

        a[t] = decay * a[t-1] + s[t],    y[t] = W s[t] + b,    dL/dW at step t = g[t] (x) a[t],   g[t] = dL/dy[t]

    With ``decay`` that of the membrane behind it, and the reset detached, the sum over steps of these gradients is
    that of backpropagation through time for one layer; across layers it leaves out paths back through time. Run one
    step at a time, with memories detached between steps (`online_backward`), so memory does not grow with T.

    Args:
        synapse: ``nn.Linear``, ``nn.Conv1d/2d/3d``, or a wrapper of one.
        decay: factor of the membrane per step, for example ``1 - 1 / tau`` of a LIF neuron, see `membrane_decay`.
        trace_bias: whether the bias counts as a synapse whose input always fires, which agrees with backpropagation
            through time; otherwise its gradient is that of the step alone.

    Raises:
        TypeError: an unsupported synapse.
        ValueError: ``decay`` outside 0..1, or a masked synapse.

    References:
        Xiao, Meng, Zhang, He, Lin 2022, Online training through time for spiking neural networks.
    """

    a: Tensor
    bias_a: Tensor

    def __init__(self, synapse: nn.Module, decay: float, *, trace_bias: bool = True) -> None:
        super().__init__()
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        found = describe_synapse(synapse)
        if found.mask is not None:
            raise ValueError("OTTTSynapse does not take masked synapses; mask the weight's gradient instead")
        self.synapse = synapse
        self.decay, self.trace_bias = decay, trace_bias
        self.register_memory("a", 0.0)
        self.register_memory("bias_a", lambda x: x.new_zeros(1))

    def single_step_forward(self, x: Tensor) -> Tensor:
        module = find_synapse(self.synapse)
        self.a = self.decay * self.a + x.detach()
        self.bias_a = self.decay * self.bias_a + 1.0 if self.trace_bias else torch.ones_like(self.bias_a)
        out: Tensor = _Traced.apply(x, self.a, self.bias_a, module.weight, module.bias, describe_synapse(module))
        return out

    def extra_repr(self) -> str:
        return f"decay={self.decay}, trace_bias={self.trace_bias}, {super().extra_repr()}"


class _Traced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, bias_a: Tensor, weight: Tensor, bias: Tensor | None, synapse: Synapse
    ) -> Tensor:
        ctx.synapse = synapse
        ctx.save_for_backward(a, bias_a, weight)
        padded = synapse.padded(x.unsqueeze(0)).squeeze(0)
        ctx.shapes = (x.shape, padded.shape)
        geometry = synapse.geometry
        if not isinstance(geometry, ConvGeometry):
            return nnf.linear(x, weight, bias)
        conv = (nnf.conv1d, nnf.conv2d, nnf.conv3d)[len(geometry.stride) - 1]
        return conv(padded, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        a, bias_a, weight = ctx.saved_tensors
        synapse, geometry = ctx.synapse, ctx.synapse.geometry
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = _input_gradient(g, weight, synapse, *ctx.shapes)
        if ctx.needs_input_grad[3]:
            dw = geometry.outer(g.unsqueeze(0), synapse.padded(a.unsqueeze(0)))
        if ctx.needs_input_grad[4]:
            channel = 1 if isinstance(geometry, ConvGeometry) else g.dim() - 1
            db = bias_a * g.sum([d for d in range(g.dim()) if d != channel])
        return dx, None, None, dw, db, None


def _input_gradient(
    g: Tensor, weight: Tensor, synapse: Synapse, shape: tuple[int, ...], padded: tuple[int, ...]
) -> Tensor:
    geometry = synapse.geometry
    if not isinstance(geometry, ConvGeometry):
        return g @ weight
    zeros = (0,) * len(geometry.stride)
    dx: Tensor = torch.ops.aten.convolution_backward(
        g,
        g.new_empty(1).expand(padded),
        weight,
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        False,
        zeros,
        geometry.groups,
        (True, False, False),
    )[0]
    if synapse.padding is None:
        return dx
    with torch.enable_grad():  # the adjoint of the padding, whatever its mode
        x = g.new_zeros(shape, requires_grad=True)
        (back,) = torch.autograd.grad(synapse.padded(x.unsqueeze(0)).squeeze(0), x, dx)
    return back


def ottt(net: nn.Module, decay: float, *, trace_bias: bool = True) -> nn.Module:
    """Replace every linear and convolutional module of ``net`` by an `OTTTSynapse` around it; return ``net``.

    Args:
        net: a network in step mode ``"s"``; parameters stay the same objects, so an optimizer keeps working.
        decay: factor per step of the membranes.
        trace_bias: see `OTTTSynapse`.

    Raises:
        ValueError: there is nothing to replace.
    """
    places = list(_places(net))
    if not places:
        raise ValueError(f"{type(net).__name__} holds no nn.Linear or nn.Conv1d/2d/3d to train online")
    for parent, name, module in places:
        setattr(parent, name, OTTTSynapse(module, decay, trace_bias=trace_bias))
    return net


def _places(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, child in net.named_children():
        if isinstance(child, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            yield net, name, child
        elif not isinstance(child, OTTTSynapse):
            yield from _places(child)
