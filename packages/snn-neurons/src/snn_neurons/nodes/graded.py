"""Neurons that emit more than 0 or 1: several spikes a step, or spikes with a sign."""

from typing import Any

import torch
from torch import Tensor

from snn_neurons.nodes._check import check_at_least, check_spike_dtype
from snn_neurons.nodes.lif import IFNode, LIFNode
from snn_neurons.spiking_node import SpikingNode
from snn_neurons.surrogates import FloorClip, RoundClip


class IntegerLIFNode(LIFNode):
    """LIF that emits an integer in training and as many binary spikes in inference (I-LIF).

    ``s[t] = round(clip(h / v_threshold, 0, levels))``; soft reset ``v[t] = h - s v_threshold``, hard reset
    ``v[t] = v_reset`` where it fired.

    Args:
        levels: largest output.
        tau, decay_input: see `LIFNode`.
        surrogate: an integer spike function of ``h / v_threshold``, `RoundClip` of ``levels`` by default.

    Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
    Energy-efficient Object Detection", ECCV 2024, arXiv:2407.20708.
    """

    def __init__(
        self,
        levels: int = 4,
        tau: float | Tensor = 2.0,
        decay_input: bool = False,
        *,
        v_reset: float | Tensor | None = None,
        **options: Any,
    ) -> None:
        check_at_least(self, "levels", levels, 1)
        check_spike_dtype(self, options, torch.uint8)
        options.setdefault("surrogate", RoundClip(levels))
        super().__init__(tau, decay_input, v_reset=v_reset, **options)
        self.levels = levels

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        s = self.fire(h / p.v_threshold, p)
        return s, state._replace(v=_reset(self, h, s, torch.clamp(s, max=1.0), p))

    def unfold(self, s_seq: Tensor) -> Tensor:
        """Binary steps with the same sum: ``[T, N, ...]`` integers to ``[T levels, N, ...]`` zeros and ones.

        A linear layer summed over the ``levels`` steps of a ``t`` gives what it gives for the integer ``s[t]``.
        """
        rank = torch.arange(1, self.levels + 1, device=s_seq.device).view(1, -1, *([1] * (s_seq.dim() - 1)))
        return (s_seq.unsqueeze(1) >= rank).to(s_seq.dtype).flatten(0, 1)


class TernaryLIFNode(LIFNode):
    """LIF that emits -1, 0 or 1: ``s[t] = H(h - v_threshold) - H(-h - v_threshold)``.

    Soft reset ``v[t] = h - s v_threshold``, hard reset ``v[t] = v_reset`` after a spike of either sign.

    Guo et al., "Ternary Spike: Learning Ternary Spikes for Spiking Neural Networks", AAAI 2024, arXiv:2312.06372.
    """

    def __init__(self, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        check_spike_dtype(self, options)
        super().__init__(tau, decay_input, **options)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        up, down = self.fire(h - p.v_threshold, p), self.fire(-h - p.v_threshold, p)
        return up - down, state._replace(v=_reset(self, h, up - down, up + down, p))


class BurstNode(IFNode):
    """Integrate-and-fire that emits up to ``gamma`` spikes in one step, for converted networks.

    ``h[t] = v[t-1] + x[t]``, ``s[t] = clip(floor(h / v_threshold), 0, gamma)``; soft reset
    ``v[t] = h - s v_threshold``, hard reset ``v[t] = v_reset`` where it fired.

    Args:
        gamma: most spikes in one step.
        surrogate: an integer spike function of ``h / v_threshold``, `FloorClip` of ``gamma`` by default.

    Li and Zeng, "Efficient and Accurate Conversion of Spiking Neural Network with Burst Spikes", IJCAI 2022,
    arXiv:2204.13271.
    """

    def __init__(self, gamma: int = 5, *, v_reset: float | Tensor | None = None, **options: Any) -> None:
        check_at_least(self, "gamma", gamma, 1)
        check_spike_dtype(self, options, torch.uint8)
        options.setdefault("surrogate", FloorClip(gamma))
        super().__init__(v_reset=v_reset, **options)
        self.gamma = gamma

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        s = self.fire(h / p.v_threshold, p)
        return s, state._replace(v=_reset(self, h, s, torch.clamp(s, max=1.0), p))


class SignedIFNode(IFNode):
    """Integrate-and-fire that takes back spikes it emitted too early, for converted networks.

    ``h[t] = v[t-1] + x[t]``; it emits ``+1`` where ``h >= v_threshold`` and ``-1`` where ``h < 0`` and the spikes
    emitted so far, ``count[t-1]``, add up to more than 0. ``count[t] = count[t-1] + s[t]``; soft reset
    ``v[t] = h - s v_threshold``, hard reset ``v[t] = v_reset`` after a spike of either sign.

    Wang et al., "Signed Neuron with Memory: Towards Simple, Accurate and High-Efficient ANN-SNN Conversion", IJCAI
    2022.
    """

    def __init__(self, *, v_reset: float | Tensor | None = None, **options: Any) -> None:
        check_spike_dtype(self, options)
        super().__init__(v_reset=v_reset, **options)
        self.register_memory("count", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        up = self.fire(h - p.v_threshold, p)
        down = (1 - self.fire(h, p)) * (state.count > 0).to(h.dtype)
        s = up - down
        return s, state._replace(v=_reset(self, h, s, up + down, p), count=state.count + self.fed_back(s))


def _reset(node: SpikingNode, h: Tensor, s: Tensor, fired: Tensor, p: Any) -> Tensor:
    """The membrane after ``s`` spikes; ``fired`` is 1 where there was any."""
    return node.reset_membrane(h, s if p.v_reset is None else fired, p)
