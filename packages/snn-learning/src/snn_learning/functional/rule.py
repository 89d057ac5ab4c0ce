"""What every rule is: a pure map from activity and traces to changes of the weight."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from snn_learning.functional.geometry import Factor, Geometry

Gain = float | Tensor | Callable[[Tensor], Tensor]
State = dict[str, Tensor]


class Term(NamedTuple):
    """One product of a rule, ``gain(w) * post * pre`` summed over time, batch and positions.

    Args:
        post: postsynaptic factor, ``[T, N, *post]``.
        pre: presynaptic factor, ``[T, N, *pre]``, or a constant that every synapse sees.
        gain: a number, a tensor that broadcasts to the weight, or a function of the weight.
    """

    post: Tensor
    pre: Factor
    gain: Gain = 1.0


class Change(NamedTuple):
    """A change of the weight, ``gain(w) * amount``; ``amount`` is summed over the batch and has the weight's shape."""

    gain: Gain
    amount: Tensor


class Rule(nn.Module):
    """A local plasticity rule: parameters, equations, no state of its own.

    A rule writes `terms`; stepwise and window updates, linear and convolutional synapses, batches and chunks follow
    from it. All its products are of factors of one neuron each, so that a window of T steps is one product per term.

    Args:
        w_min, w_max: bounds that in-place updates keep; ``None`` for none.

    Raises:
        ValueError: ``w_min`` is not below ``w_max``.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    post_signal: ClassVar[str] = "spikes"
    needs_reward: ClassVar[bool] = False
    sequential: bool = False

    def __init__(self, *, w_min: float | None = None, w_max: float | None = None) -> None:
        super().__init__()
        if w_min is not None and w_max is not None and not w_min < w_max:
            raise ValueError(f"w_min must be below w_max, got w_min={w_min}, w_max={w_max}")
        self.w_min = w_min
        self.w_max = w_max

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        """Return the state before the first step, for one step ``pre`` ``[N, *pre]`` and ``post`` ``[N, *post]``."""
        return {}

    def fresh_value(self, name: str) -> float:
        """Return the value that the state ``name`` has before the first step."""
        return 0.0

    def check(self, pre: Tensor, post: Tensor) -> None:
        """Raise ``ValueError`` where the sequences hold values that the rule has no meaning for."""

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        """Return the products of the steps ``[T, N, ...]`` and the state after them."""
        raise NotImplementedError(f"{type(self).__name__} must define terms(pre, post, state)")

    def window_terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        """Return products with the same sum over the window as `terms`, where a rule has a cheaper form."""
        return self.terms(pre, post, state)

    def changes(
        self, w: Tensor, pre: Tensor, post: Tensor, state: State, *, geometry: Geometry, reward: Tensor | None = None
    ) -> tuple[list[Change], State]:
        """Return the changes that the steps ``[T, N, ...]`` call for at the weight ``w``, and the state after."""
        form = self.terms if pre.shape[0] == 1 else self.window_terms
        terms, state = form(pre, post, state)
        return [Change(term.gain, geometry.outer(term.post, term.pre)) for term in terms], state

    def forward(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        return self.terms(pre, post, state)

    def extra_repr(self) -> str:
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_") and isinstance(v, int | float | str)}
        shown.pop("training", None)
        return ", ".join(f"{k}={v!r}" for k, v in shown.items())


def evaluate(gain: Gain, w: Tensor) -> float | Tensor:
    """Return the gain at the weight ``w``."""
    return gain(w) if callable(gain) and not isinstance(gain, Tensor) else gain


def scaled(gain: Gain, factor: float) -> Gain:
    """Return the gain times a number."""
    if callable(gain) and not isinstance(gain, Tensor):
        return lambda w: gain(w) * factor
    return gain * factor


def is_number(gain: Gain) -> bool:
    """Whether a gain is one number, the same at every weight."""
    return isinstance(gain, int | float) or (isinstance(gain, Tensor) and gain.dim() == 0)
