"""Accuracy over time steps."""

import pytest
import torch
from torch import nn

from snn_convert import TargetNotReachedError, accuracy_curve, convert, search_timesteps


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 6)).eval()
    x = torch.rand(120, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    return convert(model, [x], timesteps=8), list(zip(x.split(50), y.split(50), strict=True)), x, y


@pytest.mark.parametrize("readout", ["mean", "sum", "potential"])
def test_the_curve_is_that_of_separate_runs(case, readout):
    snn, loader, x, y = case
    snn.readout = readout
    curve = accuracy_curve(snn, loader, (8, 1, 3))
    assert curve.samples == 120
    assert list(curve.accuracy) == [1, 3, 8]
    for steps, value in curve.accuracy.items():
        assert value == pytest.approx((snn.run(x, steps).argmax(1) == y).double().mean().item(), abs=1 / 120 + 1e-9)
    assert "8 steps" in str(curve)


def test_the_smallest_number_of_steps_is_found(case):
    snn, loader, *_ = case
    curve = accuracy_curve(snn, loader, range(1, 33)).accuracy
    target = curve[8]
    found = search_timesteps(snn, loader, target, limit=32)
    assert curve[found] >= target
    assert all(curve[steps] < target for steps in range(1, found))


def test_a_target_out_of_reach_says_how_far_it_went(case):
    snn, loader, *_ = case
    wrong = [(x, (y + 1) % 6) for x, y in loader]
    with pytest.raises(TargetNotReachedError, match=r"no T up to 4 reaches an accuracy of 0.9900; the best is") as info:
        search_timesteps(snn, wrong, 0.99, limit=4)
    assert set(info.value.curve.accuracy) == {1, 2, 3, 4}


def test_mistakes_are_named(case):
    snn, loader, x, _ = case
    with pytest.raises(ValueError, match="steps must be numbers of at least 1"):
        accuracy_curve(snn, loader, (0, 4))
    with pytest.raises(ValueError, match="yields no sample"):
        accuracy_curve(snn, [])
    with pytest.raises(TypeError, match=r"pairs \(x, labels\)"):
        accuracy_curve(snn, [x])
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got 95"):
        search_timesteps(snn, loader, 95)


def test_the_curve_is_drawn(case):
    matplotlib = pytest.importorskip("matplotlib", reason="figures need matplotlib")
    matplotlib.use("Agg")
    snn, loader, *_ = case
    figure = accuracy_curve(snn, loader, (1, 2, 4)).plot(reference=1.0)
    assert figure.axes[0].get_ylabel() == "accuracy [%]"
