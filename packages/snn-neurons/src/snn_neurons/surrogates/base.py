"""The base of all surrogates: an exact spike forward, a stated derivative backward."""

import dataclasses
from typing import Any

import torch
from torch import Tensor


class _Spike(torch.autograd.Function):
    """``H(u)`` forward, ``derivative(u)`` backward; differentiable twice and under torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: "Surrogate") -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(u), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (u,) = ctx.saved_tensors
        return tangent * ctx.surrogate.derivative(u)


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """``H(u)`` forward with ``H(0) = 1``; backward ``derivative(u)``, which a subclass writes in pointwise operations."""

    def __call__(self, u: Tensor) -> Tensor:
        spike: Tensor = _Spike.apply(u, self)
        return spike

    def derivative(self, u: Tensor) -> Tensor:
        """The derivative used backward, elementwise in ``u``."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative(u)")
