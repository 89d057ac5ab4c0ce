"""Slow processes that keep weights and rates in range: normalisation, synaptic scaling, adaptive thresholds."""

import torch
from torch import Tensor


def normalize_weights(w: Tensor, target: float | Tensor, *, p: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Return the weight with the incoming weights of every neuron scaled to a norm.

    ::

        w[j] <- w[j] * target / (sum_i |w[j, i]|**p)**(1/p)

    Args:
        w: ``[N_post, ...]``; the norm is over all but the first dim. Rows of zeros stay.
        target: norm of a row, a number or ``[N_post]``.
        p: order of the norm.
        mask: weights where it is zero do not count and stay as they are.

    Raises:
        ValueError: ``target`` is not positive, or ``p`` is below 1.
    """
    if p < 1.0:
        raise ValueError(f"p must be at least 1, got {p}")
    goal = torch.as_tensor(target, dtype=w.dtype, device=w.device)
    if not bool((goal > 0).all()):
        raise ValueError(f"target must be positive, got {target}")
    counted = w if mask is None else w * (mask != 0)
    norm = torch.linalg.vector_norm(counted.flatten(1), p, dim=1)
    factor = torch.where(norm > 0, goal / norm, torch.ones_like(norm)).view(-1, *([1] * (w.dim() - 1)))
    scaled = w * factor
    return scaled if mask is None else torch.where(mask != 0, scaled, w)


def synaptic_scaling(
    w: Tensor, rate: Tensor, target_rate: float | Tensor, *, lr: float, mask: Tensor | None = None
) -> Tensor:
    """Return the weight after a multiplicative pull of each neuron's rate towards its target.

    ::

        w[j] <- w[j] * (1 + lr * (target_rate - rate[j]))

    Args:
        w: ``[N_post, ...]``.
        rate: mean activity of the postsynaptic neurons, ``[N_post]``, in the units of ``target_rate``.
        target_rate: wanted activity, a number or ``[N_post]``.
        lr: strength of one application.
        mask: weights where it is zero stay as they are.

    Raises:
        ValueError: ``rate`` is not ``[N_post]``.

    References:
        Turrigiano, Leslie, Desai, Rutherford, Nelson 1998.
    """
    if rate.shape != w.shape[:1]:
        raise ValueError(f"rate must be [N_post] = [{w.shape[0]}], got {tuple(rate.shape)}")
    factor = 1.0 + lr * (target_rate - rate)
    scaled = w * factor.clamp_min(0.0).view(-1, *([1] * (w.dim() - 1)))
    return scaled if mask is None else torch.where(mask != 0, scaled, w)


def adaptive_threshold_step(theta: Tensor, s: Tensor, *, theta_plus: float, decay: float) -> Tensor:
    """Return the threshold offset after one step: decay, then ``theta_plus`` for every spike, meaned over the batch.

    ::

        theta <- decay * theta + theta_plus * mean_n s[n]

    Args:
        theta: offset, ``[*neurons]``.
        s: spikes of the step, ``[N, *neurons]``, or of steps ``[T, N, *neurons]`` that are applied at once; further
            dims in which ``theta`` has size 1 are meaned too.
        theta_plus: growth per spike.
        decay: factor per step.

    Raises:
        ValueError: ``s`` does not fit ``theta``.
    """
    lead = s.dim() - theta.dim()
    if lead not in (1, 2) or any(a not in (1, b) for a, b in zip(theta.shape, s.shape[lead:], strict=True)):
        raise ValueError(
            f"spikes {tuple(s.shape)} do not fit theta {tuple(theta.shape)}; give [N, *neurons] or [T, N, *neurons]"
        )
    shared = [lead + i for i, n in enumerate(theta.shape) if n == 1 and s.shape[lead + i] != 1]
    mean = s.to(theta.dtype).mean([lead - 1, *shared], keepdim=True)
    mean = mean.squeeze(lead - 1)
    if lead == 1:
        return decay * theta + theta_plus * mean
    steps = mean.shape[0]
    powers = torch.tensor([decay ** (steps - 1 - t) for t in range(steps)], dtype=theta.dtype, device=theta.device)
    grown: Tensor = theta_plus * torch.tensordot(powers, mean, 1)
    return decay**steps * theta + grown
