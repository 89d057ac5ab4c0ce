"""Linear maps with a mask, with dropped connections, and on both sides of a matrix."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_base import MemoryModule, StepModule
from snn_layers import _check


class MaskedLinear(StepModule):
    """A linear map on the connections that a mask allows: ``y = x (mask * W)^T``.

    Args:
        weight: ``[out_features, in_features]``; copied into a parameter.
        mask: broadcastable to the weight, 0 where there is no connection; all ones if ``None``. A buffer.
        step_mode: ``"s"`` or ``"m"``; the last dim is mapped in both.

    Raises:
        ValueError: a weight that is no matrix, a mask that does not broadcast to it, an input of another last dim.
    """

    mask: Tensor

    def __init__(self, weight: Tensor, mask: Tensor | None = None, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        if weight.dim() != 2:
            raise ValueError(f"MaskedLinear: weight must be [out_features, in_features], got {tuple(weight.shape)}")
        if mask is None:
            mask = torch.ones_like(weight)
        try:
            mask = mask.detach().to(weight.dtype).expand_as(weight).clone()
        except RuntimeError:
            shapes = f"weight of shape {tuple(weight.shape)}, got shape {tuple(mask.shape)}"
            raise ValueError(f"MaskedLinear: mask must broadcast to the {shapes}") from None
        self.weight = nn.Parameter(weight.detach().clone())
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        _check.size("MaskedLinear", x, -1, self.weight.shape[1], "in_features")
        return F.linear(x, self.weight * self.mask)

    @torch.no_grad()
    def update(self, dw: Tensor) -> None:
        """Add ``mask * dw`` to the weight; ``dw`` is left as it is.

        Raises:
            ValueError: ``dw`` does not have the shape of the weight.
        """
        if dw.shape != self.weight.shape:
            raise ValueError(
                f"MaskedLinear.update: dw must have shape {tuple(self.weight.shape)}, got {tuple(dw.shape)}"
            )
        self.weight.addcmul_(self.mask, dw.to(self.weight.dtype))

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}, {super().extra_repr()}"


class AXAT(StepModule):
    """Maps both sides of square matrices by one learnt matrix: ``Y = A X A^T`` on the last two dims.

    Args:
        in_features, out_features: ``[..., in_features, in_features] -> [..., out_features, out_features]``.
        step_mode: ``"s"`` or ``"m"``; both treat all leading dims alike.

    Raises:
        ValueError: sizes below 1, an input whose last two dims are not ``in_features``.
    """

    def __init__(self, in_features: int, out_features: int, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.in_features = _check.positive_int("AXAT", "in_features", in_features)
        self.out_features = _check.positive_int("AXAT", "out_features", out_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        for dim in (-1, -2):
            _check.size("AXAT", x, dim, self.in_features, "in_features")
        return torch.matmul(self.weight, F.linear(x, self.weight))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"


class DropConnectLinear(MemoryModule):
    """A linear map that drops connections in training and averages over the drops in evaluation.

    Training: ``y = act((M_W * W) x + M_b * b)`` with masks ``M ~ Bernoulli(1 - p)`` per sample. Evaluation: the mean
    of ``act(z)`` over samples of ``z ~ N(mu, sigma^2)`` with ``mu = (1 - p)(W x + b)`` and
    ``sigma^2 = p (1 - p)(W^2 x^2 + b^2)``; without an activation that is mu itself.

    Args:
        in_features, out_features, bias: as for ``nn.Linear``; ``[N, in_features]`` or ``[T, N, in_features]``.
        p: probability of dropping a connection, in [0, 1].
        samples_num: samples in evaluation.
        invariant: whether the masks stay the same until `reset`, or are drawn at every step.
        activation: applied to the result, or ``None``.
        generator: source of masks and samples, on the device of the input.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: p outside [0, 1], sizes or samples_num below 1, an input of another last dim.

    Wan et al., Regularization of neural networks using DropConnect, ICML 2013.
    """

    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        p: float = 0.5,
        samples_num: int = 1024,
        invariant: bool = False,
        activation: Callable[[Tensor], Tensor] | None = F.relu,
        *,
        generator: torch.Generator | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        owner = "DropConnectLinear"
        self.in_features = _check.positive_int(owner, "in_features", in_features)
        self.out_features = _check.positive_int(owner, "out_features", out_features)
        self.p = _check.probability(owner, "p", p)
        self.samples_num = _check.positive_int(owner, "samples_num", samples_num)
        self.invariant = invariant
        self.activation = activation
        self.generator = generator
        plain = nn.Linear(in_features, out_features, bias)
        self.weight, self.bias = plain.weight, plain.bias
        if invariant:
            self.register_memory("mask", self._draw)

    def _draw(self, x: Tensor) -> Tensor:
        # One more column of the mask is the bias.
        shape = (x.shape[0], self.out_features, self.in_features + 1)
        if not self.training:
            return x.new_ones((), dtype=torch.bool).expand(shape)
        return torch.rand(shape, generator=self.generator, device=x.device) >= self.p

    def train(self, mode: bool = True) -> "DropConnectLinear":
        """Set training or evaluation; a change of it begins with new masks."""
        if mode != self.training:
            self.reset()
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        many = self.step_mode == "m"
        _check.dims("DropConnectLinear", x, (3 if many else 2,), "[T, N, in_features]" if many else "[N, in_features]")
        _check.size("DropConnectLinear", x, -1, self.in_features, "in_features")
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self._expected(x)
        return self._masked(x.unsqueeze(0), self.mask if self.invariant else self._draw(x)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if not self.training:
            return self._expected(x_seq)
        if self.invariant:
            return self._masked(x_seq, self.mask)
        return super().multi_step_forward(x_seq)

    def _masked(self, x_seq: Tensor, mask: Tensor) -> Tensor:
        weight = self.weight * mask[..., :-1]
        y = torch.bmm(x_seq.transpose(0, 1), weight.mT.to(x_seq.dtype)).transpose(0, 1)
        if self.bias is not None:
            y = y + self.bias * mask[..., -1]
        return y if self.activation is None else self.activation(y)

    def _expected(self, x: Tensor) -> Tensor:
        mu = (1.0 - self.p) * F.linear(x, self.weight, self.bias)
        if self.activation is None:
            return mu
        squares = F.linear(x * x, self.weight**2, None if self.bias is None else self.bias**2)
        variance = self.p * (1.0 - self.p) * squares
        # Where nothing varies the square root has no gradient, and needs none.
        sigma = torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
        total = torch.zeros_like(mu)
        chunk = min(self.samples_num, 64)
        for start in range(0, self.samples_num, chunk):
            count = min(chunk, self.samples_num - start)
            noise = torch.randn((count, *mu.shape), generator=self.generator, device=mu.device, dtype=mu.dtype)
            total = total + self.activation(mu + sigma * noise).sum(dim=0)
        return total / self.samples_num

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, p={self.p}, invariant={self.invariant}, {super().extra_repr()}"
