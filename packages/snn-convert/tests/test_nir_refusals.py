"""What NIR cannot express is named, all at once and before anything is written."""

import builtins

import numpy as np
import pytest
import torch
from torch import nn

from snn_base import MemoryModule
from snn_convert import NIRError, NIRNetwork, convert, from_nir, to_nir
from snn_convert.nir_layers import Delay, Scale
from snn_layers import BatchNorm2d, Linear, MultiStep
from snn_neurons import BurstNode, CubaLIFNode, IFNode, KLIFNode, LIFNode

nir = pytest.importorskip("nir", reason="needs the package nir")


def test_everything_is_named_at_once():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding_mode="circular", padding=1),
        BatchNorm2d(4),
        MultiStep(nn.Sequential(nn.Identity(), nn.MaxPool2d(2))),
        KLIFNode(),
        LIFNode(v_reset=None),
        CubaLIFNode(current_decay=0.0),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Linear(2, 2),
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(NIRError) as raised:
        to_nir(net, (2, 8, 8))
    text = str(raised.value)
    for part in (
        "0 (Conv2d): padding_mode='circular'",
        "1 (BatchNorm2d): NIR has no such node",
        "2_1 (MaxPool2d): NIR has no such node",
        "3 (KLIFNode): NIR has no such node",
        "4 (LIFNode): the soft reset",
        "5 (CubaLIFNode): current_decay of 0",
        "6 (AvgPool2d): ceil_mode",
        "7 (Linear): a linear map of the last of 3 dims",
    ):
        assert part in text, text
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(Linear(3, 4), LIFNode())
    x = torch.rand(2, 3) * 5
    net(x)
    v = net[1].v
    to_nir(net, x)
    assert net[1].v is v
    assert net.training


@pytest.mark.parametrize(
    ("module", "shape", "match"),
    [
        (nn.AdaptiveAvgPool2d(3), (2, 7, 6), "windows differ"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), (2, 6, 6), "count_include_pad"),
        (nn.AvgPool2d(2, divisor_override=1), (2, 6, 6), "SumPool2d"),
        (nn.Flatten(0), (2, 3), "batch"),
        (nn.Linear(3, 4), (5,), "does not run"),
        (BurstNode(), (3,), "BurstNode"),
    ],
)
def test_layers_that_nir_lacks(module, shape, match):
    with pytest.raises(NIRError, match=match):
        to_nir(nn.Sequential(module), shape)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Multiplying(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) * 2


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.fc = Branching(), nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else self.inner(x)


class Counter(MemoryModule):
    def single_step_forward(self, x):
        return x


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (Branching(), "no such node"),
        (Multiplying(), "the operation mul"),
        (Holder(), "cannot be traced"),
        (Counter(), "Counter"),
    ],
)
def test_code_that_is_no_graph_of_layers(net, match):
    with pytest.raises(NIRError, match=match):
        to_nir(net, (3,))


def test_an_initial_membrane_needs_the_extension():
    node = IFNode()
    node.set_initial_memory("v", 0.5)
    with pytest.raises(NIRError, match="initial membrane"):
        to_nir(nn.Sequential(node), (3,))


@pytest.mark.parametrize(
    ("recipe", "match"), [("binary", "soft reset"), ("signed", "SignedIFNode"), ("braincog", "BurstNode")]
)
def test_converted_networks_that_nir_lacks(recipe, match):
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), [torch.rand(8, 3)], recipe=recipe)
    with pytest.raises(NIRError, match=match):
        to_nir(model, (3,))


def test_arguments_are_checked():
    net = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="dt"):
        to_nir(net, (3,), dt=0.0)
    with pytest.raises(ValueError, match="integrate"):
        to_nir(net, (3,), integrate="minutes")
    with pytest.raises(ValueError, match="dt"):
        from_nir(to_nir(net, (3,)), dt=-1.0)
    with pytest.raises(ValueError, match="integrate"):
        from_nir(to_nir(net, (3,)), dt=1.0, integrate="minutes")
    with pytest.raises(ValueError, match="whole"):
        Delay(torch.tensor(0.5))
    with pytest.raises(ValueError, match="cycle"):
        NIRNetwork({"a": Scale(torch.ones(1))}, [("input", "a"), ("a", "a"), ("a", "output")])
    with pytest.raises(ValueError, match="no edge"):
        NIRNetwork({"a": Scale(torch.ones(1))}, [("input", "output")])


def test_graphs_that_cannot_run_name_all_nodes():
    ones = np.ones(2)
    nodes = {
        "input": nir.Input(np.array([2])),
        "fast": nir.LIF(tau=1e-4 * ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones),
        "late": nir.Delay(np.array([1e-3, 1.5e-3])),
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "fast"), ("fast", "late"), ("late", "output")])
    with pytest.raises(NIRError) as raised:
        from_nir(graph, dt=1e-3)
    assert "fast: a time constant" in str(raised.value)
    assert "late: a delay" in str(raised.value)
    two = nir.NIRGraph({**nodes, "more": nir.Input(np.array([2]))}, graph.edges, type_check=False)
    with pytest.raises(NIRError, match="one input"):
        from_nir(two, dt=1e-4)


def test_without_nir_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "nir":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install snn-convert\[nir\]"):
        to_nir(nn.Sequential(nn.Linear(3, 3)), (3,))
    with pytest.raises(ImportError, match=r"pip install snn-convert\[nir\]"):
        from_nir(None, dt=1.0)
