"""Neurons with more than one spike a step, or signed ones."""

import pytest
import torch

from snn_neurons import BurstNode, IFNode, IntegerLIFNode, SignedIFNode, TernaryLIFNode


def drive(scale=1.5, T=40):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(T, 2, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("node", [IFNode(v_reset=None), BurstNode(3), SignedIFNode()], ids=lambda n: type(n).__name__)
def test_a_soft_reset_loses_no_input(node):
    node.step_mode = "m"
    x_seq = drive()
    s_seq = node(x_seq)
    torch.testing.assert_close(s_seq.sum(0) * node.v_threshold + node.v, x_seq.sum(0))


def test_bursts_are_limited_and_follow_the_threshold():
    node = BurstNode(3, v_threshold=0.5, step_mode="m")
    s = node(torch.tensor([0.4, 0.2, 1.2, 9.0]).unsqueeze(1)).flatten()
    # h: 0.4, 0.6, 1.3, 9.3 (3 spikes at most)
    assert s.tolist() == [0, 1, 2, 3]
    assert node.v.item() == pytest.approx(9.3 - 1.5)


def test_a_hard_reset_of_a_burst_really_resets():
    node = BurstNode(3, v_reset=0.0)
    assert node(torch.tensor([2.5, 0.5])).tolist() == [2.0, 0.0]
    assert node.v.tolist() == [0.0, 0.5]


def test_signed_spikes_only_take_back_what_was_given():
    node = SignedIFNode(step_mode="m")
    s = node(torch.tensor([-0.5, 1.6, -0.2, -1.5, -1.0, 0.5]).unsqueeze(1)).flatten()
    # h: -0.5 (nothing to take back), 1.1, -0.1 (taken back, v = 0.9), -0.6, -1.6, -1.1
    assert s.tolist() == [0, 1, -1, 0, 0, 0]
    assert node.count.item() == 0
    node.reset()
    assert node(drive()[:, :1, :1].float()).cumsum(0).min() >= 0


def test_unfolded_integers_are_binary_and_give_a_linear_layer_the_same():
    node = IntegerLIFNode(3, step_mode="m", v_threshold=0.7)
    s_seq = node(drive().float())
    assert s_seq.unique().tolist() == [0, 1, 2, 3]
    binary = node.unfold(s_seq)
    assert binary.shape == (120, 2, 5)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    layer = torch.nn.Linear(5, 4, bias=False)
    torch.testing.assert_close(layer(binary).unflatten(0, (40, 3)).sum(1), layer(s_seq))
    first = binary.unflatten(0, (40, 3))
    assert (first[:, :-1] >= first[:, 1:]).all(), "the spikes of a step come first"


def test_ternary_spikes_are_odd_in_the_input():
    node = TernaryLIFNode(step_mode="m", v_reset=None)
    x_seq = drive(4.0).float()
    s_seq = node(x_seq)
    node.reset()
    assert torch.equal(node(-x_seq), -s_seq)
    assert s_seq.unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("node", [IntegerLIFNode(3), BurstNode(3)], ids=lambda n: type(n).__name__)
def test_integers_can_be_stored_as_bytes(node):
    node.step_mode = "m"
    x_seq = drive().float()
    expected = node(x_seq)
    node.reset()
    node.spike_dtype = torch.uint8
    assert torch.equal(node(x_seq), expected.to(torch.uint8))
