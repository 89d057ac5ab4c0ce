"""The report: parts of the error, spikes and operations, against counts made by hand."""

import json

import pytest
import torch
from torch import nn

from snn_convert import Recipe, conversion_report, convert
from snn_convert.neuron import BurstNeurons
from snn_convert.observers import MaxObserver, PercentileObserver


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)).eval()


@pytest.fixture
def x():
    return torch.rand(20, 4, generator=torch.Generator().manual_seed(1))


def test_the_first_layer_has_no_error_but_quantisation(model, x):
    # A constant current below the threshold, from half a threshold: the spikes are the rounded activation.
    snn = convert(model, [x], timesteps=5, recipe=Recipe(observer=MaxObserver))
    first, second = conversion_report(model, snn, x).layers
    with torch.no_grad():
        a = torch.relu(model[0](x))
        rounded = torch.floor(a * 5 / a.max() + 0.5) * a.max() / 5
    assert first.inherited < 1e-12
    assert first.clipping < 1e-12
    assert first.unevenness < 1e-12
    wanted = float((rounded - a).square().sum() / a.square().sum())
    assert first.quantisation == pytest.approx(wanted, rel=1e-4)
    assert first.error == pytest.approx(wanted, rel=1e-4)
    assert first.spikes == pytest.approx(float(rounded.sum() * 5 / a.max() / 20), rel=1e-5)
    assert first.rate == pytest.approx(first.spikes / 6 / 5, rel=1e-6)
    assert second.inherited > 1e-6


def test_a_low_threshold_clips(model, x):
    snn = convert(model, [x], timesteps=200, recipe=Recipe(observer=lambda: PercentileObserver(0.9)))
    first = conversion_report(model, snn, x).layers[0]
    with torch.no_grad():
        a = torch.relu(model[0](x))
    theta = snn.neurons()["relu"].threshold
    wanted = float((a.clamp(max=float(theta)) - a).square().sum() / a.square().sum())
    assert first.clipping == pytest.approx(wanted, rel=1e-4)
    assert first.quantisation < 0.01 * first.clipping
    bursts = convert(model, [x], recipe=Recipe(observer=lambda: PercentileObserver(0.9), neuron=BurstNeurons(9)))
    assert conversion_report(model, bursts, x).layers[0].clipping < 1e-12


def test_operations_are_those_that_spikes_cause(model, x):
    snn = convert(model, [x], timesteps=7, recipe=Recipe(observer=MaxObserver))
    snn.chunk = 3  # the first layer is computed once all the same
    report = conversion_report(model, snn, x)
    first, second, third = report.connections
    assert (first.macs, first.acs, first.dense_macs) == (24.0, 0.0, 24.0)
    assert second.acs == pytest.approx(report.layers[0].spikes * 5, rel=1e-6)
    assert third.acs == pytest.approx(report.layers[1].spikes * 3, rel=1e-6)
    assert (second.macs, second.dense_macs, third.dense_macs) == (0.0, 30.0, 15.0)
    assert report.synaptic_operations == second.acs + third.acs
    assert report.energy_pj == pytest.approx(4.6 * 24 + 0.9 * report.synaptic_operations)
    assert report.dense_energy_pj == pytest.approx(4.6 * 69)


def test_operations_of_a_convolution_count_the_border(x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3, padding=1)).eval()
    image = torch.ones(1, 1, 4, 4)
    report = conversion_report(net, convert(net, [image], timesteps=1, recipe=Recipe(observer=MaxObserver)), image)
    # 4 inner pixels reach 9 places each, 8 at the sides 6, 4 in the corners 4; two channels.
    assert report.connections[0].acs == 2 * (4 * 9 + 8 * 6 + 4 * 4)


def test_the_report_is_text_json_and_a_figure(model, x, tmp_path):
    snn = convert(model, [x], timesteps=4)
    report = conversion_report(model, snn, x, timesteps=6)
    assert report.timesteps == 6
    text = str(report)
    assert "unevenness" in text
    assert "synaptic operations" in text
    written = json.loads(report.to_json(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text()) == written
    assert written["per_sample"]["energy_pj"] == report.energy_pj
    assert [layer["module"] for layer in written["layers"]] == ["1", "3"]
    matplotlib = pytest.importorskip("matplotlib", reason="figures need matplotlib")
    matplotlib.use("Agg")
    assert report.plot().axes[0].get_xlabel() == "relative squared error"


def test_mistakes_are_named(model, x):
    snn = convert(model, [x])
    with pytest.raises(ValueError, match="timesteps must be at least 1, got 0"):
        conversion_report(model, snn, x, timesteps=0)
    with pytest.raises(ValueError, match="snn was not converted from model"):
        conversion_report(nn.Sequential(nn.Linear(4, 3), nn.Softplus()), snn, x)
