"""Self-attention on spikes, without softmax, and the transformer block made of it."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, StepModule, set_step_mode
from snn_layers import _check


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm over the last dim: statistics over all leading dims of ``[..., D]``."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.reshape(-1, input.shape[-1])).view(input.shape)


def _projection(in_features: int, out_features: int, neuron: MemoryModule) -> nn.Sequential:
    linear = nn.Linear(in_features, out_features, bias=False)
    return nn.Sequential(linear, TokenBatchNorm(out_features), deepcopy(neuron))


def _tokens(module: StepModule, x: Tensor, dim: int) -> None:
    many = module.step_mode == "m"
    owner = f"{type(module).__name__} in step_mode={module.step_mode!r}"
    _check.dims(owner, x, (4 if many else 3,), "[T, N, L, D]" if many else "[N, L, D]")
    _check.size(owner, x, -1, dim, "dim")


class SpikingSelfAttention(StepModule):
    """Attention between tokens with spikes as queries, keys and values.

    ``q, k, v = neuron(BN(W x))``, ``a = neuron(scale (q k^T) v)`` per head, ``y = neuron(BN(W_o a))``. Without a softmax
    the product is associative: ``q (k^T v)`` is taken where it is cheaper, linear in the number of tokens.

    Args:
        dim: D of ``[N, L, D]``.
        num_heads: must divide dim.
        neuron: a spiking neuron, copied for each place.
        attn_neuron: the neuron after the attention; like ``neuron`` if ``None``. Spikformer halves its threshold.
        scale: factor of the attention; ``None`` gives ``(D / num_heads) ** -0.5``.
        step_mode: ``"s"`` for ``[N, L, D]``, ``"m"`` for ``[T, N, L, D]``; it is given to the neurons.

    Raises:
        ValueError: dim or num_heads below 1, num_heads does not divide dim, an input of other dims.

    Zhou et al., Spikformer: when spiking neural network meets transformer, ICLR 2023.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        neuron: MemoryModule,
        attn_neuron: MemoryModule | None = None,
        scale: float | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        owner = "SpikingSelfAttention"
        self.dim = _check.positive_int(owner, "dim", dim)
        self.num_heads = _check.positive_int(owner, "num_heads", num_heads)
        if dim % num_heads:
            raise ValueError(f"{owner}: num_heads must divide dim = {dim}, got {num_heads}")
        self.scale = (dim // num_heads) ** -0.5 if scale is None else _check.positive(owner, "scale", scale)
        self.qkv = _projection(dim, 3 * dim, neuron)
        self.attn_neuron = deepcopy(neuron if attn_neuron is None else attn_neuron)
        self.proj = _projection(dim, dim, neuron)
        self.step_mode = step_mode
        for child in self.children():
            set_step_mode(child, self.step_mode)

    def forward(self, x: Tensor) -> Tensor:
        _tokens(self, x, self.dim)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.dim // self.num_heads))
        q, k, v = (part.transpose(-2, -3) for part in qkv.unbind(-3))
        if q.shape[-2] > q.shape[-1]:
            a = torch.matmul(q, torch.matmul(k.mT, v))
        else:
            a = torch.matmul(torch.matmul(q, k.mT), v)
        a = (a * self.scale).transpose(-2, -3).flatten(-2)
        y: Tensor = self.proj(self.attn_neuron(a))
        return y

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}, scale={self.scale:g}, {super().extra_repr()}"


class SpikingTransformerBlock(StepModule):
    """Self-attention and a two-layer perceptron with residual sums: ``x = x + SSA(x)``, ``y = x + MLP(x)``.

    Args:
        dim, num_heads, neuron, attn_neuron, scale: as for `SpikingSelfAttention`.
        mlp_ratio: hidden size of the perceptron as a multiple of dim.
        step_mode: ``"s"`` for ``[N, L, D]``, ``"m"`` for ``[T, N, L, D]``; it is given to the neurons.

    Raises:
        ValueError: as for `SpikingSelfAttention`; mlp_ratio not above 0.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        neuron: MemoryModule,
        attn_neuron: MemoryModule | None = None,
        scale: float | None = None,
        mlp_ratio: float = 4.0,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        _check.positive("SpikingTransformerBlock", "mlp_ratio", mlp_ratio)
        self.attn = SpikingSelfAttention(dim, num_heads, neuron=neuron, attn_neuron=attn_neuron, scale=scale)
        hidden = max(1, round(dim * mlp_ratio))
        self.mlp = nn.Sequential(*_projection(dim, hidden, neuron), *_projection(hidden, dim, neuron))
        self.step_mode = step_mode
        for child in self.children():
            set_step_mode(child, self.step_mode)

    def forward(self, x: Tensor) -> Tensor:
        _tokens(self, x, self.attn.dim)
        x = x + self.attn(x)
        y: Tensor = x + self.mlp(x)
        return y
