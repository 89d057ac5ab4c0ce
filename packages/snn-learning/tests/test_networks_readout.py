"""Labels of neurons and votes for classes, by numbers worked out by hand."""

import math

import pytest
import torch

from snn_learning.networks import assign_labels, classify

COUNTS = torch.tensor([[4.0, 0.0, 1.0, 0.0], [2.0, 0.0, 1.0, 0.0], [0.0, 6.0, 2.0, 0.0]])
LABELS = torch.tensor([0, 0, 1])


def test_assignment_by_hand() -> None:
    a = assign_labels(COUNTS, LABELS, classes=2, smoothing=1.0)
    # mean responses: class 0 (3, 0, 1, 0), class 1 (0, 6, 2, 0)
    assert a.labels.tolist() == [0, 1, 1, -1]
    torch.testing.assert_close(a.proportions, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1 / 3, 2 / 3], [0.0, 0.0]]))
    expected = torch.tensor([[7 / 8, 1 / 8], [1 / 8, 7 / 8], [3 / 6, 3 / 6], [1 / 2, 1 / 2]]).log()
    torch.testing.assert_close(a.log_likelihoods, expected)


def test_frequent_classes_do_not_win_by_number() -> None:
    counts = torch.tensor([[1.0]] * 9 + [[2.0]])
    assert assign_labels(counts, torch.tensor([0] * 9 + [1]), classes=2).labels.tolist() == [1]


def test_all_activity_takes_the_mean_over_the_neurons_of_a_class() -> None:
    a = assign_labels(COUNTS, LABELS, classes=2)
    # class 0 has neuron 0, class 1 has neurons 1 and 2: 2 against (0 + 3) / 2
    assert classify(torch.tensor([[2.0, 0.0, 3.0, 9.0]]), a, readout="all_activity").tolist() == [0]


def test_proportion_shares_a_spike_among_classes() -> None:
    a = assign_labels(COUNTS, LABELS, classes=2)
    # class 0: 1 + 3 / 3 = 2, class 1: 3 * 2 / 3 = 2 -> one more spike of neuron 1 decides
    assert classify(torch.tensor([[1.0, 1.0, 3.0, 0.0]]), a, readout="proportion").tolist() == [1]
    assert classify(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), a, readout="proportion").tolist() == [0]


def test_likelihood_adds_logarithms() -> None:
    a = assign_labels(COUNTS, LABELS, classes=2, smoothing=1.0)
    votes = torch.tensor([2.0, 1.0, 5.0, 0.0]) @ a.log_likelihoods
    assert float(votes[0]) == pytest.approx(2 * math.log(7 / 8) + math.log(1 / 8) + 5 * math.log(1 / 2))
    assert classify(torch.tensor([[2.0, 1.0, 5.0, 0.0]]), a).tolist() == [0]


def test_classes_without_samples_or_neurons_are_no_trouble() -> None:
    a = assign_labels(COUNTS, LABELS, classes=4)
    assert torch.isfinite(a.proportions).all()
    for readout in ("all_activity", "proportion", "likelihood"):
        assert classify(COUNTS, a, readout=readout).tolist() == [0, 0, 1]  # type: ignore[arg-type]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="labels"):
        assign_labels(COUNTS, LABELS[:2], classes=2)
    with pytest.raises(ValueError, match="classes=1"):
        assign_labels(COUNTS, LABELS, classes=1)
    with pytest.raises(TypeError, match="integers"):
        assign_labels(COUNTS, LABELS.float(), classes=2)
    with pytest.raises(ValueError, match="smoothing"):
        assign_labels(COUNTS, LABELS, classes=2, smoothing=0.0)
    a = assign_labels(COUNTS, LABELS, classes=2)
    with pytest.raises(ValueError, match="counts"):
        classify(COUNTS[:, :2], a)
    with pytest.raises(ValueError, match="readout"):
        classify(COUNTS, a, readout="loudest")  # type: ignore[arg-type]
