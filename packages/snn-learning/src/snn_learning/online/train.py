"""Training step by step, with memory that does not grow with time."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, detach_net, functional_call, reset_net

StepLoss = Callable[[Tensor, int], Tensor]


class OnlineResult(NamedTuple):
    """Mean over time of the output, ``[N, ...]``, and of the loss; both detached."""

    output: Tensor
    loss: Tensor


def online_backward(
    net: nn.Module,
    x_seq: Tensor,
    loss_fn: StepLoss,
    *,
    backward_steps: int | None = None,
    generator: torch.Generator | None = None,
    reset: bool = True,
    after_step: Callable[[int], None] | None = None,
) -> OnlineResult:
    """Accumulate parameter gradients of ``mean_t loss_fn(net(x[t]), t)`` one step at a time.

    Memories are detached before each step and each step is differentiated at once, so that no graph outlives its step
    and memory is the same for every T. With ordinary synapses this is SLTT: the gradient without its paths through
    time. With `OTTTSynapse` (see `ottt`) it is OTTT: the traces bring the past back in.

    Args:
        net: a network in step mode ``"s"``.
        x_seq: input ``[T, N, ...]``.
        loss_fn: ``(y, t) -> loss`` of the step's output.
        backward_steps: differentiate only so many steps, drawn at random, and scale their gradients by
            ``T / backward_steps`` (SLTT-K); all by default.
        generator: draws those steps.
        reset: reset the network first; without it the sequence goes on from the last one.
        after_step: called with ``t`` after each step, for example to apply the optimizer online.

    Returns:
        Mean output and mean loss.

    Raises:
        ValueError: an empty sequence, ``backward_steps`` out of range, or a loss that is not a scalar.

    References:
        Meng et al. 2023, Towards memory- and time-efficient backpropagation for training spiking neural networks
        (SLTT); Xiao et al. 2022 (OTTT).
    """
    steps = x_seq.shape[0]
    if steps == 0:
        raise ValueError(f"x_seq must hold at least one step, got shape {tuple(x_seq.shape)}")
    if backward_steps is not None and not 1 <= backward_steps <= steps:
        raise ValueError(f"backward_steps must be between 1 and T={steps}, got {backward_steps}")
    count = steps if backward_steps is None else backward_steps
    chosen = set(range(steps))
    if backward_steps is not None:
        chosen = set(torch.randperm(steps, generator=generator)[:count].tolist())
    if reset:
        reset_net(net)
    total: Tensor | float = 0.0
    loss_sum = torch.zeros((), device=x_seq.device)
    for t, x in enumerate(x_seq.unbind(0)):
        detach_net(net)
        with torch.set_grad_enabled(t in chosen):
            y = net(x)
            loss = loss_fn(y, t)
            if loss.dim() != 0:
                raise ValueError(f"loss_fn must return a scalar, got shape {tuple(loss.shape)}")
            if t in chosen:
                (loss / count).backward()
        total = total + y.detach()
        loss_sum = loss_sum + loss.detach() / steps
        if after_step is not None:
            after_step(t)
    detach_net(net)
    return OnlineResult(torch.as_tensor(total) / steps, loss_sum)


def membrane_decay(neuron: MemoryModule, *, memory: str = "v") -> float:
    """Return by how much a neuron's membrane carries over one step, ``dv[t] / dv[t-1]``, below threshold.

    Args:
        neuron: a neuron in step mode ``"s"`` with the memory named.
        memory: name of its membrane.

    Raises:
        ValueError: the neuron has no such memory.
    """
    if memory not in neuron.memory_names:
        raise ValueError(f"{type(neuron).__name__} has no memory {memory!r}, only {list(neuron.memory_names)}")
    mode, neuron.step_mode = neuron.step_mode, "s"
    try:
        x = torch.zeros(1, 1, dtype=torch.float64)
        with torch.no_grad():
            _, state = functional_call(neuron, None, x)
        with torch.enable_grad():
            v = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
            _, after = functional_call(neuron, {"": state[""] | {memory: v}}, x)
            (slope,) = torch.autograd.grad(after[""][memory].sum(), v)
    finally:
        neuron.step_mode = mode
    return float(slope)
