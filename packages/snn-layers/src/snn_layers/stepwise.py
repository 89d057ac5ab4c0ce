"""The factory that gives a stateless module class a step mode."""

from collections.abc import Hashable
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from snn_base import MemoryModule, StepModule
from snn_layers import _check
from snn_layers._fold import folded_call

M = TypeVar("M", bound=nn.Module)

_SPATIAL = {1: "[N, C, L]", 2: "[N, C, H, W]", 3: "[N, C, D, H, W]"}
# Families whose input has a fixed number of dims: torch takes one dim less for an unbatched input, which here would
# be a sequence that lost its time.
_FAMILIES = (
    *("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool"),
    *("AdaptiveMaxPool", "LPPool", "FractionalMaxPool", "MaxUnpool"),
)


def _step_dims() -> dict[type[nn.Module], tuple[tuple[int, ...], str]]:
    table: dict[type[nn.Module], tuple[tuple[int, ...], str]] = {}
    for family in _FAMILIES:
        for n, layout in _SPATIAL.items():
            cls = getattr(nn, f"{family}{n}d", None)
            if cls is not None:
                table[cls] = ((n + 2,), layout)
    table[nn.BatchNorm1d] = ((2, 3), "[N, C] or [N, C, L]")
    return table


_STEP_DIMS = _step_dims()


class Folded(StepModule):
    """What `stepwise` puts in front of a stateless class: a step mode, and time folded into the batch."""

    _wrapped: ClassVar[type[nn.Module]]

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        self._wrapped.__init__(self, *args, **kwargs)
        self.step_mode = step_mode
        refuse_stateful(self, type(self).__name__)
        for name, module in self.named_modules():
            if getattr(module, "batch_first", True) is False:
                where = f"{type(self).__name__}.{name}".rstrip(".")
                raise ValueError(f"{where}: batch_first must be True, so that the batch is the first dim, got False")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._step_mode == "s":
            self._check_dims(args, 0)
            return self._wrapped.forward(self, *args, **kwargs)
        self._check_dims(args, 1)
        return folded_call(self, self._step, args, kwargs, type(self).__name__)

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped.forward(self, *args, **kwargs)

    def _check_dims(self, args: tuple[Any, ...], extra: int) -> None:
        expected = _STEP_DIMS.get(self._wrapped)
        if expected is not None and args and isinstance(args[0], Tensor):
            counts, layout = expected
            if extra:
                layout = layout.replace("[N", "[T, N")
            owner = f"{type(self).__name__} in step_mode={self._step_mode!r}"
            _check.dims(owner, args[0], [n + extra for n in counts], layout)

    def extra_repr(self) -> str:
        own = self._wrapped.extra_repr(self)
        return ", ".join(part for part in (own, f"step_mode={self._step_mode!r}") if part)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A class made at run time has no import path: it is found again through the class it wraps.
        if "_wrapped" in type(self).__dict__:
            return _new, (self._wrapped,), self.__getstate__()
        return super().__reduce_ex__(protocol)


def _new(wrapped: type[nn.Module]) -> nn.Module:
    cls = stepwise(wrapped)
    return cls.__new__(cls)


def stepwise(cls: type[M]) -> type[M]:
    """Return the subclass of the stateless module class ``cls`` that takes sequences as well.

    ``y[t] = cls.forward(x[t])`` for all t at once: in ``step_mode="m"`` an input ``[T, N, ...]`` is folded to
    ``[T * N, ...]``, so statistics over the batch are over time too. The subclass has the constructor of ``cls`` plus
    the keyword ``step_mode``, its attributes and its ``state_dict`` keys. Calling twice gives the same class.

    Args:
        cls: a stateless ``nn.Module`` class whose inputs and outputs have the batch as first dim.

    Raises:
        TypeError: ``cls`` is no module class, has a step mode already, carries state over time or is lazy.

    Example:
        >>> import torch
        >>> stepwise(nn.Linear)(3, 4, step_mode="m")(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 2, 4])
    """
    return cast("type[M]", _stepwise(cast("Hashable", cls)))


@cache
def _stepwise(cls: Any) -> type[nn.Module]:
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"stepwise: cls must be a subclass of torch.nn.Module, got {cls!r}")
    name = cls.__name__
    if issubclass(cls, StepModule):
        raise TypeError(f"stepwise: {name} has a step mode already; use it as it is")
    if issubclass(cls, nn.RNNBase):
        raise TypeError(f"stepwise: {name} carries state over time, which folding time into the batch would lose")
    if issubclass(cls, nn.modules.lazy.LazyModuleMixin):
        raise TypeError(
            f"stepwise: {name} is lazy; wrap the class that it becomes, or an initialised module in TimeFold"
        )
    modes = "``[N, ...]`` in ``'s'``, ``[T, N, ...]`` in ``'m'``"
    doc = f"`torch.nn.{name}` with a step mode: {modes}.\n\n{cls.__doc__ or ''}"
    body = {"_wrapped": cls, "__doc__": doc, "__module__": __name__}
    return type(name, (Folded, cls), body)


def refuse_stateful(module: nn.Module, owner: str) -> None:
    """Raise if a module inside ``module`` has memories: folded into the batch, its steps would not follow one another.

    Raises:
        ValueError: names the module.
    """
    for name, child in module.named_modules():
        if isinstance(child, MemoryModule):
            raise ValueError(
                f"{owner}: {name!r} is a stateful {type(child).__name__}, which time folded into the batch would make "
                "wrong; put it outside, or use MultiStep or SpikingSequential"
            )
