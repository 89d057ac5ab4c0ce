"""Labels for neurons that learned without any, and votes of those neurons for a class."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from snn_learning.functional.checks import check_choice

Readout = Literal["all_activity", "proportion", "likelihood"]


class Assignment(NamedTuple):
    """What neurons stand for, measured by `assign_labels`.

    Args:
        labels: class to which a neuron responds most, ``[neurons]``; -1 for a neuron that never fired.
        proportions: share of each class in the neuron's mean responses, ``[neurons, classes]``; rows sum to 1, or to 0
            for a neuron that never fired.
        log_likelihoods: ``log P(class | a spike of the neuron)`` with every spike counted, smoothed,
            ``[neurons, classes]``.
    """

    labels: Tensor
    proportions: Tensor
    log_likelihoods: Tensor


def assign_labels(counts: Tensor, labels: Tensor, *, classes: int, smoothing: float = 0.1) -> Assignment:
    """Assign classes to neurons by their responses to labelled samples.

    ::

        n[j, c] = sum of counts[:, j] over samples of class c;    r[j, c] = n[j, c] / samples of class c
        labels[j] = argmax_c r[j, c];    proportions[j, c] = r[j, c] / sum_c r[j, c]
        log_likelihoods[j, c] = log((n[j, c] + smoothing) / (sum_c n[j, c] + classes * smoothing))

    Args:
        counts: spikes of each neuron in each presentation, ``[samples, neurons]``.
        labels: class of each sample, integers ``[samples]`` in ``[0, classes)``.
        classes: number of classes.
        smoothing: spikes added to each class in the likelihoods.

    Raises:
        ValueError: shapes that do not fit, labels out of range, ``smoothing <= 0``.
        TypeError: labels that are not integers.
    """
    if counts.dim() != 2 or labels.shape != counts.shape[:1]:
        raise ValueError(
            "counts must be [samples, neurons] and labels [samples], "
            f"got {tuple(counts.shape)} and {tuple(labels.shape)}"
        )
    if labels.dtype.is_floating_point or labels.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must be in [0, classes={classes}), got values from {int(labels.min())} to {int(labels.max())}"
        )
    if not smoothing > 0.0:
        raise ValueError(f"smoothing must be positive, got {smoothing}")
    counts = counts if counts.dtype == torch.float64 else counts.float()
    member = torch.nn.functional.one_hot(labels, classes).to(counts.dtype)
    spikes = counts.t() @ member
    rates = spikes / member.sum(0).clamp_min(1.0)
    silent = rates.sum(1) == 0
    proportions = rates / rates.sum(1, keepdim=True).masked_fill(silent.unsqueeze(1), 1.0)
    likelihoods = (spikes + smoothing) / (spikes.sum(1, keepdim=True) + classes * smoothing)
    return Assignment(rates.argmax(1).masked_fill(silent, -1), proportions, likelihoods.log())


def classify(counts: Tensor, assignment: Assignment, *, readout: Readout = "likelihood") -> Tensor:
    """Return the class that the spikes of each sample vote for.

    ``"all_activity"``: the class whose neurons fire most on average. ``"proportion"``: each spike votes for every class
    by the neuron's proportions. ``"likelihood"``: each spike adds its neuron's log likelihoods, so that a neuron that
    never fired for a class speaks against it.

    Args:
        counts: spikes of each neuron in each presentation, ``[samples, neurons]``.
        assignment: from `assign_labels`.
        readout: how spikes become votes.

    Returns:
        Classes, int64 ``[samples]``.

    Raises:
        ValueError: an unknown readout, or counts of other neurons.

    References:
        Diehl, Cook 2015 (all activity); Hazan et al. 2018, BindsNET (proportion weighting).
    """
    check_choice(readout, "readout", ("all_activity", "proportion", "likelihood"))
    if counts.dim() != 2 or counts.shape[1] != len(assignment.labels):
        raise ValueError(f"counts must be [samples, {len(assignment.labels)}], got {tuple(counts.shape)}")
    return (counts.to(assignment.proportions.dtype) @ _votes(assignment, readout)).argmax(1)


def _votes(assignment: Assignment, readout: Readout) -> Tensor:
    if readout == "proportion":
        return assignment.proportions
    if readout == "likelihood":
        return assignment.log_likelihoods
    classes = torch.arange(assignment.proportions.shape[1], device=assignment.labels.device)
    member = (assignment.labels.unsqueeze(1) == classes).to(assignment.proportions.dtype)
    return member / member.sum(0).clamp_min(1.0)
