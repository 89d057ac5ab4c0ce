"""LIF neurons that hear their own spikes through a dense weight."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from snn_neurons.fused import Affine
from snn_neurons.nodes.lif import LIFNode
from snn_neurons.recurrent import run_recurrent
from snn_neurons.reference import run_reference
from snn_neurons.sharded import is_plain


class RecurrentLIFNode(LIFNode):
    """Leaky integrate-and-fire with a dense recurrent weight.

    The LIF step with the input ``x[t] + W s[t-1]``, where ``s[-1] = 0``. A sequence is one call that keeps only
    what the neurons heard: a matmul and a kernel per step (``"native"``, ``"triton"``); elsewhere the plain loop.

    Args:
        features: number of neurons, the last dim of the input.
        tau, decay_input, options: see `LIFNode`.

    The weight ``[features, features]`` starts uniform in ``±1/sqrt(features)``.

    Raises:
        ValueError: ``features`` is not positive, or the last dim of the input is another.
    """

    def __init__(self, features: int, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        if features < 1:
            raise ValueError(f"features must be at least 1, got {features}")
        super().__init__(tau=tau, decay_input=decay_input, **options)
        self.features = features
        self.weight = nn.Parameter(torch.empty(features, features))
        nn.init.uniform_(self.weight, -1 / math.sqrt(features), 1 / math.sqrt(features))
        self.register_memory("s", 0.0)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Any:
        if x.shape[-1] != self.features:
            raise ValueError(f"the last dim of the input must be features={self.features}, got {tuple(x.shape)}")
        return super().forward(x, scale, shift)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        heard = x + nn.functional.linear(state.s, self.weight.to(state.s.dtype))
        return self.pointwise_step(heard, state, p)

    def pointwise_step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        s, new = super().step(x, state, p)
        return s, new._replace(s=s)

    def _sequence(
        self, x_seq: Tensor, state: list[Tensor], backend: str, affine: Affine | None
    ) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
        if affine is not None:
            x_seq = x_seq * affine[0] + affine[1]
        plain = all(map(is_plain, (x_seq, self.weight, *state)))
        if backend in ("native", "triton") and plain and x_seq.numel():
            return run_recurrent(self, self.weight, x_seq, state, backend)
        return run_reference(self, x_seq, state)
