"""Reward that reaches past eligibility, without storing the eligibility."""

from typing import Literal

import torch
from torch import Tensor

from snn_learning.functional.traces import reverse_trace


def reward_to_go(reward: Tensor, decay: float, timing: Literal["same", "next"] = "same") -> Tensor:
    """Return how much reward a change proposed at each step will have met by the end of the sequence.

    With an eligibility ``e[t] = decay * e[t-1] + h[t]``, the rewarded change is a sum over the proposals themselves::

        sum_t r[t] e[t]   = sum_t h[t] R[t],   R[t] = r[t] + decay * R[t+1]          (timing "same")
        sum_t r[t] e[t-1] = sum_t h[t] R[t],   R[t] = r[t+1] + decay * R[t+1]        (timing "next")

    so that ``R`` scales the rows of one matrix product, and no ``[N, N_post, N_pre]`` eligibility is needed.

    Args:
        reward: ``[T, ...]``.
        decay: factor of the eligibility per step.
        timing: whether a step's reward meets this step's eligibility or that of the step before.

    Returns:
        ``R``, of the shape of ``reward``.
    """
    same = reverse_trace(reward, decay)
    if timing == "same" or reward.shape[0] == 0:
        return same
    return torch.cat([same[1:], torch.zeros_like(same[:1])])
