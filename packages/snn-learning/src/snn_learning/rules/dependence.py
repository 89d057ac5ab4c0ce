"""How the size of a change depends on the weight."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from snn_learning.functional.checks import check_choice
from snn_learning.functional.rule import Gain

Dependence = Literal["additive", "multiplicative", "power", "morrison"]


def weight_gains(
    dependence: str | tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    a_plus: float | Tensor,
    a_minus: float | Tensor,
    *,
    mu: float,
    w_0: float,
    w_min: float | None,
    w_max: float | None,
) -> tuple[Gain, Gain]:
    """Return the gains of potentiation and depression.

    ================  =============================  =====================
    dependence        potentiation                   depression
    ================  =============================  =====================
    additive          ``a_plus``                     ``a_minus``
    multiplicative    ``a_plus (w_max - w)``         ``a_minus (w - w_min)``
    power             ``a_plus (w_max - w)**mu``     ``a_minus (w - w_min)**mu``
    morrison          ``a_plus w_0**(1-mu) w**mu``   ``a_minus w``
    (f, g)            ``a_plus f(w)``                ``a_minus g(w)``
    ================  =============================  =====================

    Raises:
        ValueError: an unknown name, or a dependence on bounds that are not finite.
        TypeError: a pair whose parts are not functions.
    """
    if isinstance(dependence, tuple):
        if len(dependence) != 2 or not all(callable(f) for f in dependence):
            raise TypeError(f"dependence must be a name or two functions (f_plus, f_minus), got {dependence!r}")
        f_plus, f_minus = dependence
        return (lambda w: a_plus * f_plus(w)), (lambda w: a_minus * f_minus(w))
    check_choice(dependence, "dependence", ("additive", "multiplicative", "power", "morrison"))
    if dependence == "additive":
        return a_plus, a_minus
    if dependence == "morrison":
        scale = w_0 ** (1.0 - mu)
        return (lambda w: a_plus * scale * w**mu), (lambda w: a_minus * w)
    low, high = w_min, w_max
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"dependence={dependence!r} needs finite bounds, got w_min={w_min}, w_max={w_max}")
    if dependence == "multiplicative":
        return (lambda w: a_plus * (high - w)), (lambda w: a_minus * (w - low))
    return (lambda w: a_plus * (high - w) ** mu), (lambda w: a_minus * (w - low) ** mu)
