"""Self-attention on spikes, without softmax."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from snn_base import StepModule, set_step_mode
from snn_layers import _check
from snn_layers.stepwise import stepwise


class _Projection(StepModule):
    """Linear map of the features of tokens, batch norm over all but features, and a neuron: ``SN(BN(W x))``."""

    def __init__(self, in_features: int, out_features: int, neuron: nn.Module) -> None:
        super().__init__()
        self.linear: Any = stepwise(nn.Linear)(in_features, out_features, bias=False)
        norm: Any = stepwise(nn.BatchNorm1d)
        self.bn = norm(out_features)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(self.bn(self.linear(x).transpose(-1, -2)).transpose(-1, -2))
        return y


class SpikingSelfAttention(StepModule):
    """Self-attention of spikes: ``SN(BN(W_o SN((Q K^T) V s)))`` with ``Q, K, V = SN(BN(W x))``, in heads.

    Products of spikes need no softmax: they are not negative. Input and output ``[N, tokens, dim]``, or with T in front
    in ``step_mode="m"``.

    Args:
        dim: features of a token.
        neuron: makes a spiking neuron, for example ``LIFNode``; called once for each of the five.
        num_heads: heads; divides dim.
        scale: s.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: sizes below 1, num_heads does not divide dim, an input of another shape.

    Zhou et al., Spikformer: when spiking neural network meets transformer (arXiv:2209.15425).
    """

    def __init__(
        self,
        dim: int,
        neuron: Callable[[], nn.Module],
        num_heads: int = 8,
        *,
        scale: float = 0.125,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.dim = _check.positive_int("SpikingSelfAttention", "dim", dim)
        self.num_heads = _check.positive_int("SpikingSelfAttention", "num_heads", num_heads)
        if dim % num_heads:
            raise ValueError(f"SpikingSelfAttention: num_heads must divide dim = {dim}, got {num_heads}")
        self.scale = scale
        self.q, self.k, self.v = (_Projection(dim, dim, neuron()) for _ in range(3))
        self.neuron = neuron()
        self.out = _Projection(dim, dim, neuron())
        self.step_mode = step_mode
        for child in self.children():
            set_step_mode(child, self.step_mode)

    def forward(self, x: Tensor) -> Tensor:
        many = self.step_mode == "m"
        layout = "[T, N, tokens, dim]" if many else "[N, tokens, dim]"
        _check.dims("SpikingSelfAttention", x, (3 + many,), layout)
        _check.size("SpikingSelfAttention", x, -1, self.dim, "dim")
        q, k, v = (part(x).unflatten(-1, (self.num_heads, -1)).transpose(-2, -3) for part in (self.q, self.k, self.v))
        # (K^T V) first is the cheaper order where there are more tokens than features in a head.
        y = (q @ k.mT) @ v if x.shape[-2] <= q.shape[-1] else q @ (k.mT @ v)
        y = self.neuron((y * self.scale).transpose(-2, -3).flatten(-2))
        result: Tensor = self.out(y)
        return result

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}, scale={self.scale:g}, {super().extra_repr()}"


class SpikingAttentionBlock(StepModule):
    """An encoder block: ``x <- x + SSA(x)``, then ``x <- x + MLP(x)`` of two projections ``SN(BN(W x))``.

    Args:
        dim, neuron, num_heads, scale: of `SpikingSelfAttention`.
        mlp_ratio: hidden features of the MLP per feature.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: see `SpikingSelfAttention`; mlp_ratio below 1.
    """

    def __init__(
        self,
        dim: int,
        neuron: Callable[[], nn.Module],
        num_heads: int = 8,
        *,
        scale: float = 0.125,
        mlp_ratio: int = 4,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        hidden = dim * _check.positive_int("SpikingAttentionBlock", "mlp_ratio", mlp_ratio)
        self.attention = SpikingSelfAttention(dim, neuron, num_heads, scale=scale)
        self.mlp = nn.Sequential(_Projection(dim, hidden, neuron()), _Projection(hidden, dim, neuron()))
        self.step_mode = step_mode
        for child in self.children():
            set_step_mode(child, self.step_mode)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        y: Tensor = x + self.mlp(x)
        return y
