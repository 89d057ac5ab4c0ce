"""Eligibility propagation for a layer of any pointwise neuron."""

from typing import Any

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, functional_call


class EProp(MemoryModule):
    """A layer of neurons, with or without recurrent weights, that learns by e-prop.

    With ``m`` the memories of a neuron, ``I`` its input, and ``z`` its output, the step of the neuron itself gives, by
    automatic differentiation of that one step, what each weight has done to each memory and to the output::

        eps[t] = (dm[t]/dm[t-1]) eps[t-1] + (dm[t]/dI[t]) pre[t]
        e[t]   = (dz[t]/dm[t-1]) eps[t-1] + (dz[t]/dI[t]) pre[t],     e_bar[t] = kappa * e_bar[t-1] + e[t]
        dL/dW  = sum_t (dL/dz[t]) e_bar[t]

    where ``pre`` is the layer's input for ``synapse``, its last output for ``recurrent``, and 1 for the bias. The sum
    is made by ``backward`` of each step's loss, see `online_backward`. Without recurrent weights, and with a loss
    of each step's output alone, it equals backpropagation through time, reset included; with them it leaves out how
    neurons act on one another through time. Memory is ``[N, N_post, N_pre]`` per memory of the neuron, whatever T.

    Args:
        synapse: input weights.
        neuron: a neuron in step mode ``"s"`` whose step is pointwise: each memory and output depends on the same
            neuron only.
        recurrent: weights from the layer to itself.
        kappa: factor per step of the membrane of a leaky readout behind the layer; 0 for none.

    Raises:
        TypeError: ``synapse`` or ``recurrent`` is not ``nn.Linear``, or ``neuron`` has no memories.
        ValueError: ``recurrent`` does not map the layer to itself, or ``kappa`` is outside 0..1.

    References:
        Bellec et al. 2020, A solution to the learning dilemma for recurrent networks of spiking neurons.
    """

    z: Tensor
    e_bar: Tensor

    def __init__(
        self, synapse: nn.Linear, neuron: MemoryModule, *, recurrent: nn.Linear | None = None, kappa: float = 0.0
    ) -> None:
        super().__init__()
        for name, module in (("synapse", synapse), ("recurrent", recurrent)):
            if not isinstance(module, nn.Linear | None):
                raise TypeError(f"{name} must be an nn.Linear, got {type(module).__name__}")
        if not isinstance(neuron, MemoryModule) or not neuron.memory_names:
            raise TypeError(f"neuron must be a MemoryModule with memories, got {type(neuron).__name__}")
        size = synapse.out_features
        if recurrent is not None and (recurrent.in_features, recurrent.out_features) != (size, size):
            raise ValueError(f"recurrent must map {size} neurons to themselves, got {recurrent}")
        if not 0.0 <= kappa <= 1.0:
            raise ValueError(f"kappa must be between 0 and 1, got {kappa}")
        self.synapse, self.neuron, self.recurrent, self.kappa = synapse, neuron, recurrent, kappa
        width = synapse.in_features + (0 if recurrent is None else size) + 1

        def per_synapse(x: Tensor) -> Tensor:
            return x.new_zeros(x.shape[0], size, width)

        self._traces = tuple(f"eps_{name}" for name in neuron.memory_names)
        for name in (*self._traces, "e_bar"):
            self.register_memory(name, per_synapse)
        self.register_memory("z", lambda x: x.new_zeros(x.shape[0], size))

    def single_step_forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            current = self.synapse(x)
            inputs = [x.detach()]
            if self.recurrent is not None:
                current = current + self.recurrent(self.z)
                inputs.append(self.z)
            pre = torch.cat([*inputs, x.new_ones(x.shape[0], 1)], 1)
        z, own = self._local_step(current, pre)
        self.z = z
        weight, bias = self.synapse.weight, self.synapse.bias
        back = (None, None) if self.recurrent is None else (self.recurrent.weight, self.recurrent.bias)
        if not torch.is_grad_enabled():
            return z
        out: Tensor = _Eligible.apply(x, weight, bias, *back, z, own, self.e_bar)
        return out

    def _local_step(self, current: Tensor, pre: Tensor) -> tuple[Tensor, Tensor]:
        """Run the neuron once, move all eligibilities by the Jacobian of that step; return z and dz/dI."""
        neuron = self.neuron
        neuron.prepare_memories(current)
        names = neuron.memory_names
        with torch.enable_grad():
            leaves = [_leaf(getattr(neuron, name)) for name in names]
            current = _leaf(current)
            z, after = functional_call(neuron, {"": dict(zip(names, leaves, strict=True))}, current)
            new = [after[""][name] for name in names]
            rows = [_diagonal(out, [*leaves, current]) for out in (*new, z)]
        neuron.set_memories({name: value.detach() for name, value in zip(names, new, strict=True)})
        old: list[Tensor] = [getattr(self, name) for name in self._traces]
        moved = []
        for *by_memory, by_input in rows:
            eps = by_input.unsqueeze(2) * pre.unsqueeze(1)
            for slope, trace in zip(by_memory, old, strict=True):
                eps = torch.addcmul(eps, slope.unsqueeze(2), trace)
            moved.append(eps)
        for name, eps in zip(self._traces, moved, strict=False):
            setattr(self, name, eps)
        self.e_bar = moved[-1] if self.kappa == 0.0 else self.kappa * self.e_bar + moved[-1]
        return z.detach(), rows[-1][-1]

    def detach(self) -> None:
        """Do nothing: no memory of this layer is ever part of a graph."""

    def extra_repr(self) -> str:
        return f"kappa={self.kappa}, {super().extra_repr()}"


class _Eligible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        recurrent: Tensor | None,
        recurrent_bias: Tensor | None,
        z: Tensor,
        own: Tensor,
        e_bar: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weight, own, e_bar)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        weight, own, e_bar = ctx.saved_tensors
        total = torch.einsum("nj,nji->ji", g, e_bar)
        wants = ctx.needs_input_grad
        n_in = weight.shape[1]
        return (
            (g * own) @ weight if wants[0] else None,
            total[:, :n_in] if wants[1] else None,
            total[:, -1] if wants[2] else None,
            total[:, n_in:-1] if wants[3] else None,
            total[:, -1] if wants[4] else None,
            None,
            None,
            None,
        )


class FeedbackLinear(nn.Linear):
    """A readout whose errors go back through fixed random weights instead of its own: random feedback alignment.

    Args:
        in_features, out_features, bias: as in ``nn.Linear``.
        generator: draws the feedback weights.

    References:
        Lillicrap, Cownden, Tweed, Akerman 2016; Bellec et al. 2020 (random e-prop).
    """

    feedback: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        random = torch.randn(out_features, in_features, generator=generator) * in_features**-0.5
        self.register_buffer("feedback", random)

    def forward(self, input: Tensor) -> Tensor:
        own = nn.functional.linear(input.detach(), self.weight, self.bias)
        through = nn.functional.linear(input, self.feedback)
        return own + (through - through.detach())


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_(x.is_floating_point())


def _diagonal(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Return the derivative of a pointwise output by each input, which is that of its sum."""
    if not out.requires_grad:
        return [torch.zeros_like(out) for _ in inputs]
    grads = torch.autograd.grad(out.sum(), inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(out) if g is None else g for g in grads]
