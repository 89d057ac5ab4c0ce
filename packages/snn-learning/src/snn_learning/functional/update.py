"""Updates of a weight by a rule: one step, T steps one after another, or one update for a window of T steps."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from snn_learning.functional.checks import check_choice
from snn_learning.functional.geometry import Geometry, LinearGeometry
from snn_learning.functional.rule import Change, Rule, State, evaluate

BatchReduction = Literal["mean", "sum", "minibatch_invariant"]
UpdateMode = Literal["stepwise", "window"]
Reward = Tensor | float


class Update(NamedTuple):
    """Result of an update: the new weight and the state that the next call takes."""

    w: Tensor
    state: State


def step(
    rule: Rule,
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    state: State | None = None,
    *,
    reward: Reward | None = None,
    geometry: Geometry | None = None,
    batch_reduction: BatchReduction = "mean",
    mask: Tensor | None = None,
) -> Update:
    """Apply a rule to one time step.

    Args:
        rule: any rule.
        w: weight, ``[N_post, N_pre]`` or that of a convolution.
        pre: presynaptic activity of the step, ``[N, *pre]``.
        post: postsynaptic activity of the step, ``[N, *post]``.
        state: state after the step before; ``None`` starts anew.
        reward: for rules that need one: a number, or ``[N]``.
        geometry: how the layers are joined; linear by default.
        batch_reduction: see `sequence`.
        mask: weights where it is zero stay as they are, bit for bit.

    Returns:
        The new weight and state; nothing is changed in place.

    Raises:
        ValueError: shapes that do not fit, values without meaning for the rule, a reward missing or unasked for.
    """
    if isinstance(reward, Tensor) and reward.dim() > 1:
        raise ValueError(f"reward of one step must be a number or [N], got {tuple(reward.shape)}")
    return sequence(
        rule, w, pre.unsqueeze(0), post.unsqueeze(0), state, update="stepwise", reward=reward, geometry=geometry,
        batch_reduction=batch_reduction, mask=mask,
    )  # fmt: skip


def sequence(
    rule: Rule,
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    state: State | None = None,
    *,
    update: UpdateMode,
    reward: Reward | None = None,
    geometry: Geometry | None = None,
    batch_reduction: BatchReduction = "mean",
    mask: Tensor | None = None,
) -> Update:
    """Apply a rule to ``T`` time steps of given activity.

    ``update="stepwise"`` is `step` repeated: every step sees the weight that the step before left, and bounds hold
    after every step. ``update="window"`` is one update after ``T`` steps: weight dependence is that of the weight at
    the start of the window, and bounds are kept once, at its end; time is summed inside one or two matrix products.

    The two are equal to rounding where no gain depends on the weight (additive rules) and no bound is touched inside
    the window. Elsewhere they differ in the second order of the change. Traces are the same in both, and any division
    of a sequence into calls that pass the state on gives the same traces.

    Args:
        rule: any rule.
        w: weight, ``[N_post, N_pre]`` or that of a convolution.
        pre: presynaptic activity, ``[T, N, *pre]``.
        post: postsynaptic activity, ``[T, N, *post]``.
        state: state after the steps before; ``None`` starts anew.
        update: ``"stepwise"`` or ``"window"``.
        reward: for rules that need one: a number, ``[N]`` (each sample's, at every step), ``[T, 1]`` or ``[T, N]``.
        geometry: how the layers are joined; linear by default.
        batch_reduction: ``"mean"`` or ``"sum"`` of the samples' changes, or ``"minibatch_invariant"``: the mean change
            applied ``N`` times, gains and bounds anew each time. The last learns as much per sample for every batch
            size: it is exactly ``N`` updates by single samples when these are alike or the rule is additive.
        mask: weights where it is zero stay as they are, bit for bit.

    Returns:
        The new weight and state; nothing is changed in place.

    Raises:
        ValueError: an unknown name, shapes that do not fit, values without meaning for the rule, a reward missing or
            unasked for, ``update="window"`` for a rule whose order within a step is sequential.
    """
    check_choice(update, "update", ("stepwise", "window"))
    check_choice(batch_reduction, "batch_reduction", ("mean", "sum", "minibatch_invariant"))
    geometry = LinearGeometry() if geometry is None else geometry
    pre, post, state, rewards = _checked(rule, w, pre, post, state, reward, geometry, mask)
    steps, batch = pre.shape[:2]
    if update == "window" and rule.sequential and steps > 1:
        raise ValueError("a rule with order='sequential' acts twice within each step; use update='stepwise'")
    dtype = compute_dtype(w)
    width = max(steps, 1) if update == "window" else 1
    for t in range(0, steps, width):
        now = slice(t, t + width)
        r = None if rewards is None else rewards[now]
        changes, state = rule.changes(w.to(dtype), pre[now], post[now], state, geometry=geometry, reward=r)
        w = apply_changes(rule, w, changes, batch=batch, batch_reduction=batch_reduction, mask=mask)
    return Update(w, state)


def change(
    rule: Rule,
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    state: State | None = None,
    *,
    reward: Reward | None = None,
    geometry: Geometry | None = None,
    batch_reduction: Literal["mean", "sum"] = "mean",
    mask: Tensor | None = None,
) -> Update:
    """Return what a window of ``T`` steps would add to the weight, before bounds, and the state after it.

    Arguments and errors are those of `sequence`; the weight is that of the start of the window throughout.
    """
    check_choice(batch_reduction, "batch_reduction", ("mean", "sum"))
    geometry = LinearGeometry() if geometry is None else geometry
    pre, post, state, rewards = _checked(rule, w, pre, post, state, reward, geometry, mask)
    if rule.sequential:
        raise ValueError("a rule with order='sequential' acts twice within each step and has no single change")
    if pre.shape[0] == 0:
        return Update(torch.zeros_like(w), state)
    frozen = w.to(compute_dtype(w))
    changes, state = rule.changes(frozen, pre, post, state, geometry=geometry, reward=rewards)
    dw = total_change(changes, frozen, 1.0 if batch_reduction == "sum" else 1.0 / pre.shape[1]).to(w.dtype)
    return Update(dw if mask is None else torch.where(mask != 0, dw, torch.zeros_like(dw)), state)


def _checked(
    rule: Rule,
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    state: State | None,
    reward: Reward | None,
    geometry: Geometry,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, State, Tensor | None]:
    """Check everything and return activity, state and reward as rules take them."""
    dtype = compute_dtype(w)
    if not dtype.is_floating_point:
        raise TypeError(f"the weight must have a floating dtype, got {w.dtype}")
    pre, post = pre.to(dtype), post.to(dtype)
    geometry.check(pre, post, w)
    if pre.shape[1] == 0:
        raise ValueError(f"the batch is empty: activity has shape {tuple(pre.shape)} = [T, N, ...]")
    rule.check(pre, post)
    if mask is not None and mask.shape != w.shape:
        raise ValueError(f"mask must have the shape of the weight, {tuple(w.shape)}, got {tuple(mask.shape)}")
    rewards = _expand_reward(rule, reward, pre.shape[0], pre.shape[1], post)
    like = (pre.new_zeros(pre.shape[1:]), post.new_zeros(post.shape[1:]))
    fresh = rule.initial_state(*like, geometry)
    if state is None:
        return pre, post, fresh, rewards
    _check_state(rule, state, fresh)
    return pre, post, state, rewards


def apply_changes(
    rule: Rule, w: Tensor, changes: list[Change], *, batch: int, batch_reduction: BatchReduction, mask: Tensor | None
) -> Tensor:
    """Return the weight after the changes, which are sums over a batch of ``batch`` samples."""
    scale = 1.0 if batch_reduction == "sum" else 1.0 / batch
    repeats = batch if batch_reduction == "minibatch_invariant" else 1
    new = w.to(compute_dtype(w))
    for _ in range(repeats):
        if rule.sequential:
            for change in changes:
                new = bounded(rule, new + total_change([change], new, scale))
        else:
            new = bounded(rule, new + total_change(changes, new, scale))
    new = new.to(w.dtype)
    return new if mask is None else torch.where(mask != 0, new, w)


def total_change(changes: list[Change], w: Tensor, scale: float) -> Tensor:
    """Return ``scale * sum_k gain_k(w) amount_k`` in the shape of the weight."""
    total: Tensor | None = None
    for gain, amount in changes:
        value = evaluate(gain, w)
        value = scale * value
        if total is None:
            total = amount * value
        elif isinstance(value, Tensor):
            total = torch.addcmul(total, amount, value)
        else:
            total = torch.add(total, amount, alpha=value)
    if total is None:
        return torch.zeros_like(w)
    return total.expand_as(w)


def bounded(rule: Rule, w: Tensor) -> Tensor:
    """Return the weight within the bounds of the rule."""
    return w if rule.w_min is None and rule.w_max is None else w.clamp(rule.w_min, rule.w_max)


def compute_dtype(w: Tensor) -> torch.dtype:
    """Return the dtype of traces and changes: that of the weight, but float32 for half precision."""
    return torch.float32 if w.dtype in (torch.float16, torch.bfloat16) else w.dtype


def _check_state(rule: Rule, state: State, fresh: State) -> None:
    if state.keys() != fresh.keys():
        raise ValueError(f"state of {type(rule).__name__} must have {sorted(fresh)}, got {sorted(state)}")
    for name, value in fresh.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"state {name!r} has shape {tuple(state[name].shape)} from an earlier call but this activity needs "
                f"{tuple(value.shape)}; start anew with state=None, or reset the learner"
            )


def _expand_reward(rule: Rule, reward: Reward | None, steps: int, batch: int, like: Tensor) -> Tensor | None:
    if not rule.needs_reward:
        if reward is not None:
            raise ValueError(f"{type(rule).__name__} takes no reward; wrap it in RewardModulated or leave reward out")
        return None
    if reward is None:
        raise ValueError(f"{type(rule).__name__} needs a reward: a number, [N], [T, 1] or [T, N]")
    r = torch.as_tensor(reward, dtype=like.dtype, device=like.device)
    if r.dim() == 0:
        return r.expand(steps, 1)
    if r.dim() == 1 and r.shape[0] == batch:
        return r.expand(steps, batch)
    if r.dim() == 2 and r.shape[0] == steps and r.shape[1] in (1, batch):
        return r
    raise ValueError(
        f"reward of shape {tuple(r.shape)} does not fit T={steps} steps of a batch of N={batch}; "
        "give a number, [N], [T, 1] or [T, N]"
    )
