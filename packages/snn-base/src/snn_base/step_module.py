"""A module that knows whether it is fed one time step or a whole sequence."""

from typing import Literal, cast

from torch import Tensor, nn

StepMode = Literal["s", "m"]
"""One step ``[N, ...]`` or a sequence ``[T, N, ...]``: the type of a ``step_mode``."""


class StepModule(nn.Module):
    """A module with a step mode: ``"s"`` takes one step ``[N, ...]``, ``"m"`` a sequence ``[T, N, ...]``.

    Raises:
        ValueError: ``step_mode`` is neither ``"s"`` nor ``"m"``.
    """

    def __init__(self, step_mode: StepMode = "s") -> None:
        super().__init__()
        self.step_mode = step_mode

    @property
    def step_mode(self) -> StepMode:
        """``"s"`` for single steps ``[N, ...]``, ``"m"`` for sequences ``[T, N, ...]``."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        if value not in ("s", "m"):
            raise ValueError(
                f"{type(self).__name__}.step_mode must be 's' (one step [N, ...]) or 'm' (a sequence [T, N, ...]), "
                f"got {value!r}"
            )
        self._step_mode = cast(StepMode, value)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """Compute one time step, ``[N, ...] -> [N, ...]``."""
        raise NotImplementedError(f"{type(self).__name__} must define single_step_forward(x)")

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Compute a sequence, ``[T, N, ...] -> [T, N, ...]``."""
        raise NotImplementedError(f"{type(self).__name__} must define multi_step_forward(x_seq)")

    def forward(self, x: Tensor) -> Tensor:
        if self._step_mode == "s":
            return self.single_step_forward(x)
        if x.dim() < 1:
            raise ValueError(f"{type(self).__name__} in step_mode='m' needs x of shape [T, N, ...], got a 0-dim tensor")
        return self.multi_step_forward(x)

    def extra_repr(self) -> str:
        return f"step_mode={self._step_mode!r}"
