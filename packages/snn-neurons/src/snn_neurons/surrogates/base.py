"""The base of all surrogates: an exact spike forward, a stated derivative backward."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _SpikeInGraph(torch.autograd.Function):
    """``spike(u)`` forward, ``derivative(u)`` backward; differentiable twice and under reverse transforms."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: "Surrogate", *fields: Tensor) -> Tensor:
        return _with(surrogate, fields).spike(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate, *fields = inputs
        ctx.save_for_backward(u, *fields)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, *fields = ctx.saved_tensors
        surrogate = _with(ctx.surrogate, fields)
        by_field = []
        for i, name in enumerate(surrogate.tensor_fields):
            needed = ctx.needs_input_grad[2 + i] and name in surrogate.learnable_fields
            by_field.append(grad * surrogate.field_derivative(name, u) if needed else None)
        return (grad * surrogate.derivative(u), None, *by_field)


class _Spike(_SpikeInGraph):
    """The same with a forward-mode derivative, which the compiler does not take."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate, *fields = inputs
        ctx.save_for_backward(u, *fields)
        ctx.save_for_forward(u, *fields)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, _: None, *tangents: Tensor | None) -> Tensor:
        u, *fields = ctx.saved_tensors
        surrogate = _with(ctx.surrogate, fields)
        total = torch.zeros_like(u) if tangent is None else tangent * surrogate.derivative(u)
        for name, along in zip(surrogate.tensor_fields, tangents, strict=True):
            if along is not None and name in surrogate.learnable_fields:
                total = total + along * surrogate.field_derivative(name, u)
        return total


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A spike function, ``H(u)`` with ``H(0) = 1``, whose backward is the `derivative` that a subclass writes once.

    A surrogate is an immutable value. Its fields are floats, or tensors that broadcast with ``u``; a neuron takes the
    tensors among them as parameters of its own, named ``surrogate_<field>``.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Hat(Surrogate):
        ...     width: float = 1.0
        ...
        ...     def derivative(self, u):
        ...         return (u.abs() < self.width) * (1 - u.abs() / self.width)
        >>> Hat()(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([0., 1., 1.])
    """

    learnable_fields: ClassVar[tuple[str, ...]] = ()
    positive_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.positive_fields:
            value = getattr(self, name)
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"{type(self).__name__}: {name} must be above 0, got {value!r}")

    def __call__(self, u: Tensor) -> Tensor:
        fields = []
        for name in self.tensor_fields:
            value = getattr(self, name)
            if value.requires_grad and name not in self.learnable_fields:
                raise ValueError(
                    f"{type(self).__name__}: {name} has no gradient and cannot be learned; pass a float, or define "
                    "learnable_fields and field_derivative"
                )
            fields.append(value.to(u.dtype).expand_as(u))
        function = _SpikeInGraph if torch.compiler.is_compiling() else _Spike
        out: Tensor = function.apply(u, self, *fields)
        return out

    def spike(self, u: Tensor) -> Tensor:
        """The forward value, exact."""
        return (u >= 0).to(u.dtype)

    def derivative(self, u: Tensor) -> Tensor:
        """The derivative used backward, elementwise in ``u``."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative(u)")

    def field_derivative(self, name: str, u: Tensor) -> Tensor:
        """The derivative of the smooth function behind `derivative` by its field ``name``, one to be learned."""
        raise NotImplementedError(f"{type(self).__name__} must define field_derivative(name, u) to learn {name!r}")

    @property
    def tensor_fields(self) -> tuple[str, ...]:
        """Names of the fields that hold a tensor."""
        return tuple(f.name for f in dataclasses.fields(self) if isinstance(getattr(self, f.name), Tensor))

    def plot(self, *, low: float = -2.0, high: float = 2.0, points: int = 401, ax: "Axes | None" = None) -> "Axes":
        """Draw the spike function and its derivative over ``low <= u <= high``.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from snn_neurons.surrogates.plotting import plot_surrogate

        return plot_surrogate(self, low=low, high=high, points=points, ax=ax)


@dataclasses.dataclass(frozen=True)
class ScaledSurrogate(Surrogate):
    """A surrogate ``alpha F'(alpha u)``, the derivative of ``F(alpha u)``: its sharpness ``alpha`` can be learned.

    The gradient of ``alpha`` is that of ``F(alpha u)``, which is ``u derivative(u) / alpha``.
    """

    alpha: float | Tensor = 1.0

    learnable_fields: ClassVar[tuple[str, ...]] = ("alpha",)
    positive_fields: ClassVar[tuple[str, ...]] = ("alpha",)

    def field_derivative(self, name: str, u: Tensor) -> Tensor:
        return u * self.derivative(u) / self.alpha


def _with(surrogate: Surrogate, fields: Any) -> Surrogate:
    """``surrogate`` with these values of its tensor fields."""
    if not fields:
        return surrogate
    return dataclasses.replace(surrogate, **dict(zip(surrogate.tensor_fields, fields, strict=True)))
