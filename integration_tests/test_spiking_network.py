"""Neurons of one package inside the layers of another, under the state functions of the third."""

from __future__ import annotations

import torch
from torch import nn

from snn_base import memory_state, reset_net, set_step_mode
from snn_layers import MultiStep
from snn_neurons import IFNode, LIFNode


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        MultiStep(nn.Conv2d(1, 4, 3, padding=1)),
        LIFNode(),
        MultiStep(nn.Flatten()),
        MultiStep(nn.Linear(64, 5)),
        IFNode(),
    )


def test_single_and_multi_step_agree() -> None:
    x_seq = torch.rand(6, 3, 1, 4, 4)
    net = network()
    set_step_mode(net, "s")
    one_by_one = torch.stack([net(x) for x in x_seq])
    stepped = memory_state(net)
    reset_net(net)
    set_step_mode(net, "m")
    torch.testing.assert_close(net(x_seq), one_by_one)
    torch.testing.assert_close(memory_state(net), stepped)
