"""Neurons in the place of activations: the user's own, graded ones, and maxima of accumulated spikes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_convert import BurstNeurons, GradedIFNode, MaxObserver, Recipe, convert, verify
from snn_convert.neuron import CumulativeMaximum
from snn_neurons import SpikingNode


class Leaky(SpikingNode):
    """A neuron of the user's: integrate-and-fire whose membrane fades a little, with soft reset."""

    def __init__(self, keep: float, **options: Any) -> None:
        super().__init__(v_reset=None, **options)
        self.register_param("keep", keep)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return p.keep * state.v + x


def model_and_data() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 3)).eval(), torch.randn(8, 1, 8, 8)


def observer() -> MaxObserver:
    return MaxObserver(per_channel=True)


def test_a_users_neuron_takes_the_place() -> None:
    model, x = model_and_data()
    recipe = Recipe(observer, lambda: Leaky(1.0, step_mode="m"))
    snn = convert(model, [x], timesteps=64, recipe=recipe)
    assert all(isinstance(n.node, Leaky) for n in snn.neurons().values())
    torch.testing.assert_close(snn.run(x), convert(model, [x], timesteps=64, recipe=Recipe(observer)).run(x))
    leaky = convert(model, [x], timesteps=64, recipe=Recipe(observer, lambda: Leaky(0.9, step_mode="m")))
    assert (leaky.run(x) - snn.run(x)).abs().max() > 1e-3


def test_corrections_make_up_for_a_leak() -> None:
    model, x = model_and_data()

    def error(bias: bool) -> float:
        recipe = Recipe(observer, lambda: Leaky(0.9, step_mode="m"), bias_correction=bias)
        return float((convert(model, [x], timesteps=16, recipe=recipe).run(x) - model(x)).detach().norm())

    assert error(True) < 0.7 * error(False)


@pytest.mark.parametrize("gamma", [1, 3])
def test_burst_neurons_converge(gamma: int) -> None:
    model, x = model_and_data()
    snn = convert(model, [x], recipe=Recipe(observer, BurstNeurons(gamma)))
    assert verify(model, snn, x, timesteps=256, tolerance=0.02).converged


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_graded_neuron_by_hand(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    x = torch.randn(20, 3, 5, generator=generator) * levels
    node = GradedIFNode(levels, step_mode="m")
    node.set_initial_memory("v", 0.5)
    found = node(x)
    v, count = torch.full((3, 5), 0.5), torch.zeros(3, 5)
    for i, s in zip(x, found, strict=True):
        h = v + i
        expected = torch.where(h >= 1, h.floor().clamp(max=levels), torch.zeros_like(h))
        back = torch.minimum(torch.minimum((-h).ceil(), count), torch.tensor(float(levels)))
        expected = torch.where(h < 0, -back, expected)
        assert torch.equal(s.abs(), expected.abs())
        assert torch.equal(s + 0.0, expected + 0.0)
        v, count = h - expected, count + expected
        assert (count >= 0).all()
    with pytest.raises(ValueError, match="levels"):
        GradedIFNode(0)


POOLS = [
    (F.max_pool1d, 1, {}),
    (F.max_pool2d, 2, {}),
    (F.max_pool3d, 3, {}),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("pool", "dims", "options"), POOLS)
def test_the_sum_is_the_maximum_of_the_summed_input(pool: Any, dims: int, options: dict, seed: int) -> None:
    """Overlapping, padded, dilated windows; signed input; any split of time."""
    generator = torch.Generator().manual_seed(seed)
    kernel = 2 + seed % 2
    settings = {"stride": 1 + seed % 2, "padding": seed % 2, "dilation": 1 + seed // 2, **options}
    x = torch.randint(-1, 3, (9, 2, 3, *(8,) * dims), generator=generator).double()
    module = CumulativeMaximum(lambda a: pool(a, kernel, **settings))
    y = torch.cat([module(x[:4]), module(x[4:])])
    for t in range(len(x)):
        torch.testing.assert_close(y[: t + 1].sum(0), pool(x[: t + 1].sum(0), kernel, **settings))


@pytest.mark.parametrize("recipe", ["binary", "signed"])
@pytest.mark.parametrize("seed", range(5))
def test_random_networks_with_pools_converge(seed: int, recipe: str) -> None:
    torch.manual_seed(100 + seed)
    kernel = int(torch.randint(2, 4, ()))
    stride, dilation = int(torch.randint(1, kernel + 1, ())), int(torch.randint(1, 3, ()))
    pad = int(torch.randint(0, kernel // 2 + 1, ()))
    pools = [nn.MaxPool2d(kernel, stride, pad, dilation, ceil_mode=bool(seed % 2)), nn.MaxPool2d(3, 1, 1)]
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), pools[0], nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), pools[1],
        nn.Conv2d(6, 4, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    x = torch.randn(8, 2, 16, 16)
    snn = convert(model, [x], timesteps=256, recipe=recipe)
    found = verify(model, snn, x, timesteps=256)
    assert found.layers[-1].error < 0.01, str(found)
