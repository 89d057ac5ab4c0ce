"""Parallel spiking neurons: no reset, so all steps at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, StepModule
from snn_base.step_module import StepMode
from snn_neurons.surrogates import ATan


class PSN(StepModule):
    """Parallel spiking neuron: ``H = W X + b`` over time, ``S = H(H)``, with a dense ``W [T, T]``, ``b [T]``.

    Args:
        T: number of steps; the input must have as many.
        surrogate: the spike function.

    Takes sequences ``[T, N, ...]`` only, since ``W`` also looks ahead.

    Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies", NeurIPS
    2023, arXiv:2304.12760.
    """

    def __init__(
        self, T: int, *, surrogate: Callable[[Tensor], Tensor] | None = None, step_mode: StepMode = "m"
    ) -> None:
        super().__init__(step_mode)
        if T < 1:
            raise ValueError(f"{type(self).__name__}: T must be at least 1, got {T}")
        self.T = T
        self.surrogate = ATan() if surrogate is None else surrogate
        self.weight = nn.Parameter(torch.empty(T, T))
        self.bias = nn.Parameter(torch.full((T,), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def effective_weight(self) -> Tensor:
        """The matrix ``[T, T]`` that is applied to the sequence."""
        return self.weight

    def single_step_forward(self, x: Tensor) -> Tensor:
        raise ValueError(
            f"{type(self).__name__} sees all steps at once: use step_mode='m', or SlidingPSN for single steps"
        )

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if x_seq.shape[0] != self.T:
            raise ValueError(f"{type(self).__name__} was made for T={self.T} steps, got x_seq of {tuple(x_seq.shape)}")
        h = torch.addmm(self.bias.unsqueeze(1), self.effective_weight(), x_seq.flatten(1))
        return self.surrogate(h).view(x_seq.shape)

    def extra_repr(self) -> str:
        return f"T={self.T}, surrogate={self.surrogate!r}, {super().extra_repr()}"


class MaskedPSN(PSN):
    """Parallel spiking neuron that looks back ``k`` steps and never ahead.

    ``H = (W * M) X + b`` with ``M[i, j] = 1`` for ``i - k < j <= i``, else ``1 - strength``: raise the strength from 0
    to 1 during training.

    Args:
        T: number of steps.
        k: number of steps seen, the present one included; at most ``T``.
        strength: strength of the mask, in [0, 1].
        surrogate: the spike function.

    Fang et al., NeurIPS 2023, arXiv:2304.12760.
    """

    mask: Tensor

    def __init__(
        self,
        T: int,
        k: int,
        *,
        strength: float = 1.0,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        step_mode: StepMode = "m",
    ) -> None:
        super().__init__(T, surrogate=surrogate, step_mode=step_mode)
        if not 1 <= k <= T:
            raise ValueError(f"MaskedPSN: k must lie in [1, T={T}], got {k}")
        self.k = k
        self.strength = strength
        self.register_buffer("mask", torch.ones(T, T).tril().triu(1 - k), persistent=False)

    @property
    def strength(self) -> float:
        """Strength of the mask, in [0, 1]."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"MaskedPSN: strength must lie in [0, 1], got {value!r}")
        self._strength = value

    def effective_weight(self) -> Tensor:
        return self.weight * (self._strength * self.mask + (1 - self._strength))

    def extra_repr(self) -> str:
        return f"k={self.k}, strength={self._strength}, {super().extra_repr()}"


class SlidingPSN(MemoryModule):
    """Parallel spiking neuron with one window for all steps: ``h[t] = sum_i w[i] x[t - k + 1 + i] + b``.

    The last ``k - 1`` inputs are its memory ``past [N, k - 1, ...]``, zeros at first, so single steps, chunks and whole
    sequences of any length give the same.

    Args:
        k: number of steps seen, the present one included.
        exp_init: start from ``w[i] = 2^(i - k + 1)``, like a leaky membrane, else from uniform random values.
        surrogate: the spike function.

    Fang et al., NeurIPS 2023, arXiv:2304.12760.
    """

    past: Tensor

    def __init__(
        self,
        k: int,
        *,
        exp_init: bool = True,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        step_mode: StepMode = "s",
    ) -> None:
        super().__init__(step_mode)
        if k < 1:
            raise ValueError(f"SlidingPSN: k must be at least 1, got {k}")
        self.k = k
        self.surrogate = ATan() if surrogate is None else surrogate
        start = 2.0 ** torch.arange(1.0 - k, 1.0) if exp_init else torch.empty(k).uniform_(-1, 1) / math.sqrt(k)
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.tensor(-1.0))
        self.register_memory("past", lambda x: x.new_zeros(x.shape[0], k - 1, *x.shape[1:]))

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self._run(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        return self._run(x_seq)

    def _run(self, x_seq: Tensor) -> Tensor:
        T = x_seq.shape[0]
        seen = torch.cat([self.past.movedim(1, 0), x_seq]) if self.k > 1 else x_seq
        h = self.bias.expand_as(x_seq)
        for i, w in enumerate(self.weight.unbind()):
            h = torch.addcmul(h, seen[i : i + T], w)
        self.past = seen[seen.shape[0] - self.k + 1 :].movedim(0, 1)
        return self.surrogate(h)

    def extra_repr(self) -> str:
        return f"k={self.k}, surrogate={self.surrogate!r}, {super().extra_repr()}"
