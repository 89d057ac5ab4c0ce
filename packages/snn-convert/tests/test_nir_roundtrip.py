"""Networks through NIR and back: structure, parameters, spikes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_base import reset_net, set_step_mode
from snn_convert import NIRNetwork, convert, from_nir, to_nir
from snn_convert.nir_layers import Delay, Scale, SumPool2d, Threshold
from snn_convert.nir_neurons import EulerCubaLI, EulerCubaLIF, EulerLI, EulerLIF
from snn_layers import Conv1d, Conv2d, Flatten, Linear, MultiStep, SpikingSequential, TimeFold
from snn_layers.synapse import SynapseFilter
from snn_neurons import (
    CubaLIFNode,
    IFNode,
    LeakyIntegrator,
    LIFNode,
    ParametricLIFNode,
    RecurrentLIFNode,
    SynapticLIFNode,
)

nir = pytest.importorskip("nir", reason="needs the package nir")
DT = 1e-4


def there_and_back(net, shape, tmp_path, *, to=None, back=None):
    nir.write(tmp_path / "net.nir", to_nir(net, shape, dt=DT, **(to or {})))
    return from_nir(tmp_path / "net.nir", dt=DT, **(back or {}))


def run(net, x_seq):
    net = copy.deepcopy(net).eval()
    set_step_mode(net, "s")
    reset_net(net)
    with torch.no_grad():
        return torch.stack([net(x) for x in x_seq])


NEURONS = {
    "if": lambda: IFNode(v_threshold=1.3, v_reset=0.2),
    "if_per_channel": lambda: IFNode(v_threshold=torch.tensor([0.7, 1.1, 2.3]).view(3, 1, 1)),
    "lif": lambda: LIFNode(2.2, v_reset=-0.1),
    "lif_whole_input": lambda: LIFNode(3.7, decay_input=False, v_threshold=0.9),
    "lif_per_neuron": lambda: LIFNode(torch.linspace(1.1, 9.3, 60).view(3, 4, 5)),
    "lif_learnable": lambda: LIFNode(2.2, learnable=("tau",)),
    "cuba": lambda: CubaLIFNode(current_decay=0.3, voltage_decay=0.07, v_reset=0.1),
    "cuba_per_channel": lambda: CubaLIFNode(current_decay=torch.tensor([0.3, 0.5, 1.0]).view(3, 1, 1)),
    "synaptic": lambda: SynapticLIFNode(5.5, tau_syn=2.5, v_reset=0.3),
    "li": lambda: LeakyIntegrator(7.3),
    "li_whole_input": lambda: LeakyIntegrator(7.3, decay_input=False),
    "euler_li": lambda: EulerLI(0.1, 0.37, 0.2),
    "i": lambda: EulerLI(0.0, 0.37),
    "euler_lif": lambda: EulerLIF(0.11, 0.37, 0.2, v_threshold=0.8, v_reset=-0.3),
    "euler_if": lambda: EulerLIF(0.0, 0.37),
    "euler_cuba_lif": lambda: EulerCubaLIF(0.3, 0.7, 0.11, 0.37, 0.2, v_reset=-0.3),
    "cuba_li": lambda: EulerCubaLI(0.3, 0.7, 0.11, 0.37, 0.2),
}


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_comes_back_as_it_was(name, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(NEURONS[name]())
    again = there_and_back(net, (3, 4, 5), tmp_path)
    assert type(again[0]) is type(net[0])
    for parameter in net[0].param_names:
        before, after = getattr(net[0], parameter), getattr(again[0], parameter)
        before = before.detach() if isinstance(before, torch.Tensor) else before
        if isinstance(before, torch.Tensor) and before.dim():
            assert torch.equal(before, after), parameter
        else:
            assert after == pytest.approx(float(before), rel=1e-7 if isinstance(before, torch.Tensor) else 0), parameter
    x_seq = torch.randn(30, 2, 3, 4, 5) * 2 + 0.5
    y_seq = run(net, x_seq)
    assert bool(y_seq.any())
    assert torch.equal(run(again, x_seq), y_seq)


@given(tau=st.floats(1.0, 1e4), decay=st.floats(1e-4, 1.0), dt=st.sampled_from([1e-4, 1e-3, 3e-3, 1.0]))
def test_time_constants_come_back_to_the_last_digit_of_float32(tau, decay, dt):
    net = nn.Sequential(LIFNode(tau), CubaLIFNode(current_decay=decay, voltage_decay=decay))
    again = from_nir(to_nir(net, (2,), dt=dt), dt=dt)
    assert np.float32(again[0].tau) == np.float32(tau)
    assert np.float32(again[1].current_decay) == np.float32(decay)
    assert np.float32(again[1].voltage_decay) == np.float32(decay)


LAYERS = {
    "linear": (lambda: Linear(6, 4), (6,)),
    "linear_without_bias": (lambda: Linear(6, 4, bias=False), (6,)),
    "conv1d": (lambda: Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (4, 11)),
    "conv1d_same": (lambda: Conv1d(4, 6, 3, padding="same", bias=False), (4, 11)),
    "conv2d": (lambda: Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), (4, 7, 8)),
    "conv2d_valid": (lambda: Conv2d(1, 2, 3, padding="valid", bias=False), (1, 5, 6)),
    "sum_pool": (lambda: SumPool2d(2, (2, 1), padding=1), (2, 6, 5)),
    "avg_pool": (lambda: nn.AvgPool2d(3, 2, padding=1), (2, 6, 5)),
    "flatten": (lambda: Flatten(), (2, 3, 4)),
    "flatten_some": (lambda: Flatten(2, 3), (2, 3, 4)),
    "delay": (lambda: Delay(3), (2, 3)),
    "delay_per_neuron": (lambda: Delay(torch.tensor([[0, 1, 2], [5, 0, 3]])), (2, 3)),
    "scale": (lambda: Scale(torch.rand(2, 3)), (2, 3)),
    "threshold": (lambda: Threshold(torch.rand(2, 3)), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_as_it_was(name, tmp_path):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    net = nn.Sequential(make())
    again = there_and_back(net, shape, tmp_path)
    assert isinstance(again[0], type(net[0]))
    assert net[0].state_dict().keys() == again[0].state_dict().keys()
    assert all(torch.equal(a, again[0].state_dict()[k]) for k, a in net[0].state_dict().items())
    x_seq = torch.randn(9, 2, *shape)
    y_seq = run(net, x_seq)
    assert torch.equal(run(again, x_seq), y_seq)
    set_step_mode(again, "m")
    reset_net(again)
    torch.testing.assert_close(again(x_seq), y_seq)


def deep_net():
    return SpikingSequential(
        MultiStep(nn.Conv2d(2, 6, 3, padding=1, bias=False)),
        LIFNode(2.2, v_threshold=0.4),
        TimeFold(nn.AvgPool2d(2), nn.Dropout(0.5)),
        nn.Sequential(Conv2d(6, 8, 3, groups=2), IFNode(v_threshold=0.5)),
        Flatten(),
        Linear(8 * 2 * 2, 10),
        RecurrentLIFNode(10, 3.0, decay_input=False, v_threshold=0.6),
        Linear(10, 5),
        CubaLIFNode(v_threshold=0.5),
        LeakyIntegrator(9.0),
    )


def test_a_deep_network_gives_the_same_output(tmp_path):
    torch.manual_seed(1)
    net = deep_net()
    again = there_and_back(net, (2, 8, 8), tmp_path, back={"step_mode": "m"})
    assert isinstance(again, SpikingSequential)
    assert [n for n, _ in again.named_children()] == ["0", "1", "2_0", "3_0", "3_1", "4", "5", "6", "7", "8", "9"]
    x_seq = torch.randn(40, 3, 2, 8, 8)
    y_seq = run(net, x_seq)
    assert float(y_seq.abs().max()) > 0.1
    with torch.no_grad():
        torch.testing.assert_close(again(x_seq), y_seq)
    # A second time nothing changes any more.
    assert nir_equal(to_nir(net, (2, 8, 8)), to_nir(again, (2, 8, 8)))


def nir_equal(a, b):
    if [type(n) for n in a.nodes.values()] != [type(n) for n in b.nodes.values()] or len(a.edges) != len(b.edges):
        return False
    for x, y in zip(a.nodes.values(), b.nodes.values(), strict=True):
        for key, value in x.to_dict().items():
            if isinstance(value, np.ndarray) and not np.array_equal(value, y.to_dict()[key]):
                return False
    return True


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.spike = LIFNode(2.5, v_threshold=0.3)
        self.second = nn.Linear(6, 6)
        self.again = IFNode(v_threshold=0.6)

    def forward(self, x):
        s = self.spike(self.first(torch.flatten(x, 1)))
        return self.again(self.second(s) + s + (s + s))


def test_branches_and_sums_become_edges(tmp_path):
    torch.manual_seed(0)
    net = Residual()
    again = there_and_back(net, (2, 3), tmp_path)
    assert isinstance(again, NIRNetwork)
    x_seq = torch.randn(40, 3, 2, 3)
    y_seq = run(net, x_seq)
    assert 0.05 < float(y_seq.mean()) < 0.95
    assert torch.equal(run(again, x_seq), y_seq)
    set_step_mode(again, "m")
    reset_net(again)
    assert torch.equal(again(x_seq), y_seq)
    third = there_and_back(again, (2, 3), tmp_path)
    assert torch.equal(run(third, x_seq), y_seq)


def cycle(bias):
    """Two layers of neurons, the second of which reaches the first through weights and a delay."""
    ones, rng = np.ones(4), np.random.default_rng(0)
    lif = {"tau": 3e-4 * ones, "r": ones, "v_leak": 0 * ones, "v_threshold": 0.3 * ones, "v_reset": 0 * ones}
    back = rng.normal(size=(4, 4)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([4])),
        "a": nir.LIF(**lif),
        "fc": nir.Linear(rng.normal(size=(4, 4)).astype(np.float32)),
        "b": nir.IF(r=ones, v_threshold=ones, v_reset=0 * ones),
        "back": nir.Affine(back, np.full(4, bias, np.float32)),
        "wait": nir.Delay(2e-4 * ones),
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "a"), ("a", "fc"), ("fc", "b"), ("b", "wait"), ("wait", "back"), ("back", "a"), ("b", "output")]
    return nir.NIRGraph(nodes, edges)


def test_a_cycle_takes_one_step():
    graph = cycle(0.25)
    net = from_nir(graph, dt=DT)
    assert isinstance(net, NIRNetwork)
    torch.manual_seed(0)
    x_seq = torch.randn(30, 2, 4) * 1.5
    y_seq = run(net, x_seq)
    weight, back = (torch.from_numpy(graph.nodes[n].weight) for n in ("fc", "back"))
    v, u = torch.zeros(2, 4), torch.zeros(2, 4)
    past = [torch.zeros(2, 4)] * 3  # the delay, and the step that the cycle takes
    for x, y in zip(x_seq, y_seq, strict=True):
        h = v + (x + past[-3] @ back.T + 0.25 - v) / 3
        s = (h >= 0.3).float()
        v = h * (1 - s)
        u = u + s @ weight.T
        z = (u >= 1).float()
        u = u * (1 - z)
        past.append(z)
        assert torch.equal(y, z)
    assert 0 < float(y_seq.mean()) < 1
    again = from_nir(to_nir(net, (4,)), dt=DT)
    assert torch.equal(run(again, x_seq), y_seq)
    set_step_mode(again, "m")
    reset_net(again)
    assert torch.equal(again(x_seq), y_seq)


def test_a_subgraph_of_a_recurrent_layer_is_read():
    ones = np.ones(3)
    lif = nir.LIF(tau=2e-4 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([3])),
            "lif": lif,
            "w_rec": nir.Linear(np.eye(3, dtype=np.float32)),
            "output": nir.Output(np.array([3])),
        },
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    nodes = {"input": nir.Input(np.array([3])), "rnn": inner, "output": nir.Output(np.array([3]))}
    graph = nir.NIRGraph(nodes, [("input", "rnn"), ("rnn", "output")], type_check=False)
    net = from_nir(graph, dt=DT)
    assert type(net[0]) is RecurrentLIFNode
    assert net[0].tau == 2.0
    assert net[0].decay_input is False
    assert torch.equal(net[0].weight, torch.eye(3))


def test_reset_by_mask_reaches_the_edges_of_cycles():
    net = from_nir(cycle(0.0), dt=DT)
    torch.manual_seed(0)
    x_seq = torch.randn(12, 2, 4) * 2
    for x in x_seq:
        net(x)
    reset_net(net, torch.tensor([True, False]))
    after = torch.stack([net(x) for x in x_seq])
    assert torch.equal(after[:, 0], run(net, x_seq)[:, 0])
    assert not torch.equal(after[:, 1], run(net, x_seq)[:, 1])


def test_exact_threshold_keeps_ties():
    net = nn.Sequential(IFNode())
    x_seq = torch.ones(3, 1, 1)
    plain, exact = to_nir(net, (1,)), to_nir(net, (1,), exact_threshold=True)
    assert plain.nodes["0"].v_threshold.item() == 1.0
    assert exact.nodes["0"].v_threshold.item() == np.nextafter(np.float32(1), np.float32(0))
    # NIR fires above the threshold: read to the letter, only the second fires at once.
    assert run(from_nir(plain, dt=DT, exact_threshold=True), x_seq).flatten().tolist() == [0, 1, 0]
    again = from_nir(exact, dt=DT, exact_threshold=True)
    assert again[0].v_threshold == 1.0
    assert run(again, x_seq).flatten().tolist() == [1, 1, 1]


def test_integration_per_second():
    graph = to_nir(nn.Sequential(IFNode()), (2,), dt=DT, integrate="seconds")
    assert graph.nodes["0"].r.tolist() == [1 / DT] * 2
    assert type(from_nir(graph, dt=DT, integrate="seconds")[0]) is IFNode
    half = from_nir(graph, dt=DT / 2, integrate="seconds")[0]
    assert half.gain == pytest.approx(0.5)


def test_soft_reset_travels_as_an_extension(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(LIFNode(2.0, v_reset=None), IFNode(v_reset=None))
    net[1].set_initial_memory("v", 0.5)
    again = there_and_back(net, (3,), tmp_path, to={"extensions": True})
    assert again[0].v_reset is None
    x_seq = torch.rand(30, 2, 3) * 4
    assert torch.equal(run(again, x_seq), run(net, x_seq))
    # Whoever does not know the extension resets to a value.
    graph = to_nir(net, (3,), extensions=True)
    for node in graph.nodes.values():
        node.metadata = {}
    assert from_nir(graph, dt=DT)[0].v_reset == 0.0
    assert from_nir(graph, dt=DT, soft_reset=True)[0].v_reset is None


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 8, 3, groups=2, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


@pytest.mark.parametrize("recipe", ["rate_coding_hard_reset", "binary"])
def test_a_converted_network_travels(recipe, tmp_path):
    torch.manual_seed(0)
    x = torch.rand(16, 1, 8, 8)
    model = convert(small_cnn(), [x], recipe=recipe)
    again = there_and_back(model, (1, 8, 8), tmp_path, to={"extensions": recipe == "binary"})
    with torch.no_grad():
        expected = model.run(x, 12, per_step=True)
    assert float(expected.var(0).max()) > 0
    torch.testing.assert_close(run(again, x.expand(12, *x.shape)), expected)


def test_a_saturating_synapse_is_refused_and_a_linear_one_becomes_a_leaky_integrator(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(SynapseFilter(4.0, kind="linear"))
    again = there_and_back(net, (3,), tmp_path)
    assert type(again[0]) is LeakyIntegrator
    x_seq = torch.rand(20, 2, 3)
    torch.testing.assert_close(run(again, x_seq), run(net, x_seq))
    with pytest.raises(ValueError, match="saturating"):
        to_nir(nn.Sequential(SynapseFilter(4.0)), (3,))


def test_a_learned_time_constant_is_written_as_it_is_now(tmp_path):
    net = nn.Sequential(ParametricLIFNode(3.0))
    again = there_and_back(net, (3,), tmp_path)
    assert type(again[0]) is LIFNode
    assert again[0].tau == pytest.approx(3.0, rel=1e-6)
