"""Winner-take-all among the units of a layer."""

from typing import Literal

import torch
from torch import Tensor

from snn_learning.functional.checks import check_choice


def winner_take_all(
    scores: Tensor,
    k: int = 1,
    *,
    scope: Literal["global", "map", "position"] = "global",
    eligible: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return which units are among the ``k`` with the highest score.

    Args:
        scores: ``[N, features]`` or ``[N, C, ...]``, for example membrane potentials or spikes.
        k: number of winners in each group.
        scope: the group: ``"global"`` is all units of a sample, ``"map"`` each channel, ``"position"`` all channels at
            one place.
        eligible: boolean, units that may win; all by default.
        generator: draws among equal scores; without one the first of them wins.

    Returns:
        Boolean tensor of the shape of ``scores``; fewer than ``k`` are true where fewer are eligible.

    Raises:
        ValueError: ``k`` is below 1, the scope is unknown or needs channels, ``eligible`` has another shape.
    """
    check_choice(scope, "scope", ("global", "map", "position"))
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if scores.dim() < 2 or (scope != "global" and scores.dim() < 3):
        needed = "[N, features] or more dims" if scope == "global" else "[N, C, ...] with spatial dims"
        raise ValueError(f"scope={scope!r} needs scores of shape {needed}, got {tuple(scores.shape)}")
    if eligible is not None and eligible.shape != scores.shape:
        raise ValueError(f"eligible must have the shape of scores, {tuple(scores.shape)}, got {tuple(eligible.shape)}")
    moved = scores.movedim(1, -1) if scope == "position" else scores
    rows = moved.flatten(1) if scope == "global" else moved.flatten(2) if scope == "map" else moved
    allowed = None
    if eligible is not None:
        allowed = (eligible.movedim(1, -1) if scope == "position" else eligible).reshape(rows.shape)
    winners = _winners(rows, min(k, rows.shape[-1]), allowed, generator).reshape(moved.shape)
    return winners.movedim(-1, 1) if scope == "position" else winners


def _winners(rows: Tensor, k: int, allowed: Tensor | None, generator: torch.Generator | None) -> Tensor:
    if not rows.dtype.is_floating_point:
        rows = rows.float()
    if allowed is not None:
        rows = rows.masked_fill(~allowed, -torch.inf)
    kth = rows.topk(k, dim=-1).values[..., -1:]
    above = rows > kth
    tied = rows == kth
    if generator is not None:
        order = torch.rand(rows.shape, generator=generator, device=generator.device).to(rows.device)
    else:
        order = torch.linspace(1.0, 0.5, rows.shape[-1], dtype=torch.float64, device=rows.device).expand(rows.shape)
    order = order.masked_fill(~tied, -1.0)
    places = torch.arange(k, device=rows.device)
    chosen = order.topk(k, dim=-1).indices
    wanted = places < k - above.sum(-1, keepdim=True)
    winners = above | (torch.zeros_like(above).scatter(-1, chosen, wanted) & tied)
    return winners if allowed is None else winners & allowed
