"""Between time-first ``[T, N, ...]`` and the time-last ``[N, ..., T]`` of slayer."""

from torch import Tensor


def TNX_to_NXT(x_seq: Tensor) -> Tensor:
    """``[T, N, ...] -> [N, ..., T]``, contiguous.

    Raises:
        ValueError: fewer than two dims.
    """
    if x_seq.dim() < 2:
        raise ValueError(f"x_seq must be [T, N, ...], got shape {tuple(x_seq.shape)}")
    return x_seq.movedim(0, -1).contiguous()


def NXT_to_TNX(x_seq: Tensor) -> Tensor:
    """``[N, ..., T] -> [T, N, ...]``, contiguous.

    Raises:
        ValueError: fewer than two dims.
    """
    if x_seq.dim() < 2:
        raise ValueError(f"x_seq must be [N, ..., T], got shape {tuple(x_seq.shape)}")
    return x_seq.movedim(-1, 0).contiguous()
