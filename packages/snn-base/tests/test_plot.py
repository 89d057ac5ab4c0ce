import sys

import pytest
import torch

from snn_base.progress import progress

matplotlib = pytest.importorskip("matplotlib", reason="the pictures need matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

from snn_base import plot  # noqa: E402


@pytest.fixture(autouse=True)
def close():
    yield
    pyplot.close("all")


def draw(name):
    spikes = (torch.rand(20, 4, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    return {
        "raster": lambda: plot.raster(spikes),
        "raster in ms": lambda: plot.raster(spikes, dt=0.5),
        "membrane": lambda: plot.membrane(spikes.cumsum(0), spikes, threshold=1.0),
        "moving threshold": lambda: plot.membrane(spikes, threshold=spikes + 1, neurons=[0, 9]),
        "rates": lambda: plot.rate_histogram({"a": spikes.mean(0), "b": spikes.mean(1)}),
        "filters": lambda: plot.filters(torch.randn(7, 12), shape=(3, 4), columns=3),
        "conv filters": lambda: plot.filters(torch.randn(3, 2, 5, 5)),
        "accuracy": lambda: plot.accuracy_over_time({"snn": {1: 0.5, 4: 0.8}}, reference=0.9),
        "errors": lambda: plot.layer_errors({"conv": {"clipping": 0.1, "quantisation": 0.2}, "fc": {"clipping": 0.3}}),
        "stdp": lambda: plot.stdp_window(torch.linspace(-20, 20, 41), torch.linspace(-1, 1, 41)),
        "confusion": lambda: plot.confusion_matrix(torch.eye(3) * 5),
        "learning": lambda: plot.learning_curve({"train": [1.0, 0.5], "test": [1.1, 0.7]}, ylabel="loss"),
    }[name]()


PICTURES = ["raster", "raster in ms", "membrane", "moving threshold", "rates", "filters", "conv filters", "accuracy"]
PICTURES += ["errors", "stdp", "confusion", "learning"]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_that_can_be_drawn(name):
    figure = draw(name)
    figure.canvas.draw()
    axes = [ax for ax in figure.axes if ax.axison]
    assert axes
    if "filters" not in name:
        assert any(ax.get_xlabel() for ax in axes)
        assert any(ax.get_ylabel() or ax.get_yticklabels() for ax in axes)


def test_units_are_on_the_axes():
    assert draw("raster").axes[0].get_xlabel() == "time [steps]"
    assert draw("raster in ms").axes[0].get_xlabel() == "time [ms]"
    assert draw("rates").axes[0].get_xlabel() == "firing rate [spikes / step]"


def test_the_raster_shows_every_spike():
    spikes = torch.zeros(5, 2, 2)
    spikes[1, 0, 1] = spikes[4, 1, 1] = 1
    (dots,) = plot.raster(spikes).axes[0].collections
    assert dots.get_offsets().tolist() == [[1.0, 1.0], [4.0, 3.0]]


def test_pictures_go_into_given_axes():
    figure, ax = pyplot.subplots()
    assert plot.stdp_window(torch.arange(3.0), torch.arange(3.0), ax=ax) is figure


def test_misuse_is_refused():
    with pytest.raises(ValueError, match=r"spikes must be \[T, neurons\], got shape \(3,\)"):
        plot.raster(torch.ones(3))
    with pytest.raises(ValueError, match=r"shape \(7, 12\) with shape=\(5, 5\) is no set of images"):
        plot.filters(torch.randn(7, 12), shape=(5, 5))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install snn-base\[plot\]"):
        plot.raster(torch.ones(3, 3))


def test_progress_is_silent_without_a_terminal(capsys):
    assert list(progress(range(3), desc="work")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
