"""Neurons for online training: each step has a graph of its own, so that memory does not grow with time.

Run them in ``step_mode="s"`` and call ``backward`` on the loss of each step before the next one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from snn_neurons.nodes.lif import LIFNode


class _OnlineLIFNode(LIFNode):
    """LIF that gives its memories away without a graph: fused calls would tie them to the inputs."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Any:
        out = super().forward(x, scale, shift)
        self.detach()
        return out


class SLTTLIFNode(_OnlineLIFNode):
    """LIF that learns through space only: its membrane of the step before is a constant to the gradient.

    Forward as `LIFNode`; backward, ``v[t-1]`` is detached, so the input gets the gradient ``g'(h - v_threshold)`` of
    its own step and no other, and the last memory none.

    Meng et al., "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks", ICCV 2023,
    arXiv:2302.14311.
    """

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state._replace(v=state.v.detach()), p)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p).detach())


class OTTTLIFNode(_OnlineLIFNode):
    """LIF for online training through time, which also keeps a trace of its spikes for the weights that follow it.

    Forward as `LIFNode` without decay of the input; backward, ``v[t-1]`` is detached. The memory
    ``trace[t] = (1 - 1 / tau) trace[t-1] + s[t]`` is what the next layer's weight gradient uses in place of the spike:
    see `trace_gradient` and `OTTTSequential`.

    Xiao et al., "Online Training Through Time for Spiking Neural Networks", NeurIPS 2022, arXiv:2210.04195.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = False,
        *,
        v_reset: float | Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(tau, decay_input, v_reset=v_reset, **options)
        self.register_memory("trace", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state._replace(v=state.v.detach()), p)
        s = self.fire(h - p.v_threshold, p)
        trace = (1 - 1 / p.tau) * state.trace + s
        return s, state._replace(v=self.reset_membrane(h, s, p).detach(), trace=trace.detach())


class _Substitute(torch.autograd.Function):
    """The value of ``value`` with the gradient of ``source``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def trace_gradient(module: nn.Module, s: Tensor, trace: Tensor) -> Tensor:
    """``module(s)`` whose parameters get their gradient from ``trace`` in place of ``s``; ``s`` gets its own.

    Args:
        module: a layer linear in its input and without memory, such as ``nn.Linear`` or ``nn.Conv2d``.
        s: spikes of one step.
        trace: their trace, of the same shape: ``OTTTLIFNode.trace``.
    """
    with torch.no_grad():
        y = module(s)
    carrier = _Substitute.apply(s, trace.to(s.dtype))
    out: Tensor = _Substitute.apply(module(carrier), y)
    return out


class OTTTSequential(nn.Sequential):
    """A sequence of layers in which each layer after an `OTTTLIFNode` learns from the node's trace.

    Raises:
        ValueError: a node is in ``step_mode="m"``; online training goes step by step.
    """

    def forward(self, x: Tensor) -> Tensor:
        before: nn.Module | None = None
        for module in self:
            if isinstance(module, OTTTLIFNode) and module.step_mode != "s":
                raise ValueError("OTTTSequential needs its neurons in step_mode='s', got 'm'")
            if isinstance(before, OTTTLIFNode) and next(module.parameters(), None) is not None:
                x = trace_gradient(module, x, before.memories["trace"])  # type: ignore[arg-type]
            else:
                x = module(x)
            before = module
        return x
