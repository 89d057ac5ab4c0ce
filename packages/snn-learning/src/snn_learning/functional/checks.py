"""Checks shared by rules and updates; all of them run before anything is changed."""

from collections.abc import Collection

from torch import Tensor


def check_binary(s: Tensor, name: str) -> None:
    """Raise unless ``s`` holds only 0 and 1.

    Raises:
        ValueError: it holds another value, which is named.
    """
    odd = (s != 0) & (s != 1)
    if odd.any():
        raise ValueError(f"{name} must hold spikes, 0 or 1, for this rule, got the value {s[odd].flatten()[0].item()}")


def check_choice(value: object, name: str, choices: Collection[str]) -> None:
    """Raise unless ``value`` is one of ``choices``.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}, got {value!r}")
