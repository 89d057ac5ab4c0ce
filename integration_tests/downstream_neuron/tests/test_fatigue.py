"""The neuron computes its equations, in both step modes, and learns."""

from __future__ import annotations

import torch
from downstream_neuron import FatigueNode
from torch import nn

from snn_base import reset_net


def test_equations() -> None:
    node = FatigueNode(step_mode="m")
    x_seq = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)) * 2.0
    spikes = node(x_seq)
    v, f = torch.zeros(4), torch.zeros(4)
    for x, s in zip(x_seq, spikes, strict=True):
        h = 0.5 * v + x / (1.0 + f)
        assert torch.equal(s, (h >= 1.0).float())
        v, f = (1.0 - s) * h, 0.9 * f + 0.5 * s
    torch.testing.assert_close(node.v, v)
    torch.testing.assert_close(node.f, f)
    assert 0.0 < spikes.mean() < 1.0


def test_single_and_multi_step_agree() -> None:
    x_seq = torch.rand(7, 3, 5, generator=torch.Generator().manual_seed(1)) * 2.0
    single = FatigueNode()
    one_by_one = torch.stack([single(x) for x in x_seq])
    torch.testing.assert_close(FatigueNode(step_mode="m")(x_seq), one_by_one)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    node = FatigueNode(step_mode="m", learnable=("cost",))
    net = nn.Sequential(nn.Linear(8, 16), node, nn.Linear(16, 2))
    x_seq = torch.rand(6, 64, 8)
    target = (x_seq.mean(0)[:, :4].sum(1) > x_seq.mean(0)[:, 4:].sum(1)).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        reset_net(net)
        loss = nn.functional.cross_entropy(net(x_seq).mean(0), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert node.cost.item() != 0.5
