import pytest
import torch
from torch import nn

from snn_base import Recorder, firing_rate, firing_rates, interspike_intervals, set_step_mode


def test_outputs_and_memories_over_single_steps_and_sequences(leaky):
    net = nn.Sequential(leaky(), leaky())
    x = torch.randn(4, 2, 3)
    with Recorder(net, outputs=["1"], memories="*.v", device="cpu") as record:
        y = net(x)
    assert torch.equal(record["1"], y)
    assert record["0.v"].shape == (1, 2, 3)
    net[0].reset(), net[1].reset()
    set_step_mode(net, "s")
    with Recorder(net, outputs="1", memories="0.v") as steps:
        for step in x:
            net(step)
    assert torch.allclose(steps["1"], y)
    assert steps["0.v"].shape == (4, 2, 3)
    assert not steps["0.v"].requires_grad
    assert torch.equal(steps["0.v"][-1:], record["0.v"])
    net(x[0])
    assert len(steps["1"]) == 4  # the recorder is off outside its block
    assert sorted(steps.names()) == ["0.v", "1"]
    assert "1" in steps
    steps.clear()
    with pytest.raises(KeyError, match="nothing recorded under '1'"):
        steps["1"]


def test_a_pattern_without_a_match_is_refused(leaky):
    with pytest.raises(ValueError, match=r"Recorder: memories='\*.u' matches nothing in Sequential"):
        Recorder(nn.Sequential(leaky()), memories="*.u")
    with pytest.raises(ValueError, match="outputs='7' matches nothing"):
        Recorder(nn.Sequential(leaky()), outputs="7")


def test_rates_and_intervals(leaky):
    spikes = torch.tensor([[1, 0], [0, 0], [0, 1], [1, 1]])
    assert firing_rate(spikes).item() == 0.5
    assert firing_rate(spikes, 0).tolist() == [0.5, 0.5]
    assert interspike_intervals(spikes).tolist() == [3, 1]
    assert interspike_intervals(torch.zeros(4, 2)).tolist() == []
    net = nn.Sequential(leaky())
    net(torch.ones(1, 2, 3))
    before = net[0].v
    rates = firing_rates(net, torch.ones(2, 5, 3), outputs="0")
    assert set(rates) == {"0"}
    assert net[0].v is before


def test_shared_replaced_and_re_entered(leaky):
    net = nn.ModuleDict({"p": leaky()})
    net["q"] = net["p"]
    record = Recorder(net, outputs="q")
    with record:
        net["p"](torch.ones(2, 1, 3))
        with pytest.raises(RuntimeError, match="recording already"):
            record.__enter__()
    net["q"] = leaky()
    with record:
        net["q"](torch.ones(2, 1, 3))
    assert len(record["q"]) == 4
