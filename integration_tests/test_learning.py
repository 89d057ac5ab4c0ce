"""A learner on the real layers and neurons, against the functional form on the spikes that passed."""

import pytest
import torch
from torch import nn

import snn_layers as sl
from snn_base import Recorder, multi_step_forward, set_step_mode
from snn_learning import Learner, PairSTDP
from snn_learning.functional import sequence
from snn_learning.synapse import describe_synapse
from snn_neurons import LIFNode

LAYERS = {
    "linear": (lambda: sl.Linear(6, 4, bias=False), (5, 2, 6)),
    "conv": (lambda: sl.Conv2d(2, 3, 3, padding=1, stride=2, bias=False), (5, 2, 2, 6, 6)),
}


@pytest.mark.parametrize("update", ["window", "stepwise"])
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_learner_equals_the_rule_on_the_recorded_spikes(name, mode, update):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    nn.init.uniform_(layer.weight, 0.2, 0.8)
    net = nn.Sequential(layer, LIFNode(v_threshold=0.5))
    set_step_mode(net, mode)
    rule = PairSTDP(tau_plus=10.0, tau_minus=15.0)
    learner = Learner(rule, layer, net[1], update=update)
    before, geometry = layer.weight.detach().clone(), describe_synapse(layer).geometry
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    with Recorder(net, outputs="1") as record, torch.no_grad():
        net(spikes) if mode == "m" else multi_step_forward(spikes, net)
    post = record["1"]
    assert 0 < post.mean() < 1
    learner.step()
    expected = sequence(rule, before, spikes, post, update=update, geometry=geometry)[0]
    assert (layer.weight - before).abs().max() > 1e-5
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)
