import json

import pytest
import torch
from torch import nn

from snn_base import EnergyModel, MemoryModule, profile


class Threshold(MemoryModule):
    def __init__(self):
        super().__init__("m")
        self.register_memory("v", 0.0)

    def single_step_forward(self, x):
        self.v = self.v + x
        return (self.v > 0.5).to(x.dtype)


class Steps(nn.Module):
    """A torch layer on a sequence, with time folded into the batch."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def test_counts_of_a_linear_layer_by_hand():
    net = nn.Sequential(nn.Linear(3, 5))
    x = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 0.0, 1.0]]])  # two steps, one sample
    (layer,) = profile(net, x).layers
    assert (layer.name, layer.kind) == ("0", "Linear")
    assert layer.dense_macs == 2 * 3 * 5
    assert layer.synaptic_operations == 3 * 5
    assert layer.acs == 4 * 5  # the 2 is two accumulates
    assert layer.macs == 0
    (real,) = profile(net, x + 0.5).layers
    assert real.macs == 30
    assert real.acs == 0


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2),
        nn.Conv2d(4, 6, 3, dilation=2, padding="same"),
        nn.Conv1d(4, 2, 3),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    ],
)
def test_synaptic_operations_are_the_products_that_are_not_zero(conv):
    shape = (3, 2, 4, *[7] * len(conv.kernel_size))
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    layer = profile(Steps(conv), x).layers[0]
    twin = type(conv)(**{k: getattr(conv, k) for k in conv.__constants__ if k in ("stride", "dilation", "groups")},
                      in_channels=4, out_channels=conv.out_channels, kernel_size=conv.kernel_size,
                      padding=conv.padding, bias=False)  # fmt: skip
    nn.init.ones_(twin.weight)
    assert layer.synaptic_operations == pytest.approx(twin(x.flatten(0, 1)).sum().item() / 2)
    assert layer.acs == layer.synaptic_operations


def test_spikes_rates_energy_and_forms():
    net = nn.Sequential(Threshold(), Steps(nn.Linear(3, 2)))
    x = torch.ones(4, 2, 3)
    net(x)
    before = net[0].v
    result = profile(net, x, energy=EnergyModel(mac=2.0, ac=1.0, byte=0.0))
    assert net[0].v is before
    spikes, linear = result.layers
    assert spikes.spikes == 12
    assert spikes.rate == 1.0
    assert linear.acs == 24
    assert linear.energy_pj == 24.0
    assert result.total("energy_pj") == 24.0
    assert json.loads(result.to_json())["layers"][1]["acs"] == 24
    assert "total" in str(result)
    assert [line.split()[0] for line in str(result).splitlines()] == ["layer", "0", "1.layer", "total"]
    # memories are read and written at each of 4 steps: 6 values of 4 bytes
    assert spikes.traffic_bytes * 2 == 2 * 4 * 24 + 2 * 4 * 24


def test_the_figure_names_the_layers():
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib").use("Agg")
    net = nn.Sequential(nn.Linear(3, 2))
    (ax,) = profile(net, torch.ones(1, 1, 3)).figure().axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0"]
    assert ax.get_xlabel() == "energy per sample [nJ]"
