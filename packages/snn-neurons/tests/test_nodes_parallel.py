"""Parallel spiking neurons against their sums over time, and the sliding one as a stream."""

import pytest
import torch

from snn_base.testing import assert_state_is_kept_apart, assert_step_modes_agree
from snn_neurons import PSN, MaskedPSN, SlidingPSN


def sequence(T=6, *shape):
    return 1.5 * torch.randn(T, *(shape or (3, 4)), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("strength", [None, 0.0, 0.4, 1.0])
def test_output_is_the_spike_of_a_weighted_sum_over_time(strength):
    torch.manual_seed(0)
    T, k = 6, 3
    node = PSN(T) if strength is None else MaskedPSN(T, k, strength=strength)
    torch.nn.init.normal_(node.weight)
    x_seq = sequence(T, 3, 2, 2).requires_grad_()
    y = node(x_seq)
    for t in range(T):
        h = node.bias[t]
        for j in range(T):
            inside = strength is None or t - k < j <= t
            h = h + node.weight[t, j] * (1.0 if inside else 1 - strength) * x_seq[j]
        assert torch.equal(y[t], (h >= 0).float())
    y.sum().backward()
    assert x_seq.grad.abs().sum() > 0
    assert node.weight.grad.abs().sum() > 0


def test_a_full_mask_looks_neither_ahead_nor_far_back():
    node = MaskedPSN(6, 2)
    torch.nn.init.ones_(node.weight)
    x_seq = sequence().requires_grad_()
    node(x_seq)[3].sum().backward()
    seen = x_seq.grad.abs().sum((1, 2)) > 0
    assert seen.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_sliding_window_is_the_same_sum_at_every_step(k):
    node = SlidingPSN(k, exp_init=False, step_mode="m")
    x_seq = sequence()
    y = node(x_seq)
    for t in range(6):
        h = node.bias + sum(node.weight[i] * x_seq[t - k + 1 + i] for i in range(k) if t - k + 1 + i >= 0)
        assert torch.equal(y[t], (h >= 0).float())


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_sliding_neuron_streams(k):
    assert_step_modes_agree(SlidingPSN(k), sequence(), chunks=(1, 2, 4))
    assert_state_is_kept_apart(SlidingPSN(k, step_mode="m"), sequence())


def test_the_sliding_neuron_resets_samples_alone():
    node = SlidingPSN(3)
    x = sequence(1)[0]
    node(x)
    node.reset(torch.tensor([True, False, True]))
    assert node.past[[0, 2]].abs().sum() == 0
    assert torch.equal(node.past[1, -1], x[1])


def test_the_first_weights_are_those_of_a_leaky_membrane():
    assert SlidingPSN(4).weight.tolist() == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: PSN(0), "T must be at least 1"),
        (lambda: PSN(4)(sequence(5)), "was made for T=4 steps"),
        (lambda: PSN(4, step_mode="s")(sequence(5)[0]), "use step_mode='m', or SlidingPSN"),
        (lambda: MaskedPSN(4, 5), r"k must lie in \[1, T=4\], got 5"),
        (lambda: MaskedPSN(4, 2, strength=1.5), r"strength must lie in \[0, 1\]"),
        (lambda: SlidingPSN(0), "k must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(run, message):
    with pytest.raises(ValueError, match=message):
        run()
