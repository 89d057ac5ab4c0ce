"""QCFS: values, gradients, and conversion to a spiking layer that computes the same."""

import pytest
import torch
from torch import Tensor, nn

from snn_convert import QCFS, convert, verify


def formula(x: Tensor, theta: Tensor, levels: int) -> Tensor:
    """The activation written with straight-through floor and clip, as autograd differentiates it."""
    share = x / theta
    clipped = torch.where(share < 0, 0.0, torch.where(share > 1, 1.0, share))
    rounded = torch.floor(clipped * levels + 0.5) / levels
    return (clipped + (rounded - clipped).detach()) * theta


@pytest.mark.parametrize("shape", [(), (3, 1)])
def test_values_and_gradients_are_those_of_the_formula(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64) * 3
    theta = 0.5 + 2 * torch.rand(shape, generator=generator, dtype=torch.float64)
    module = QCFS(4, theta).double()
    module.threshold.data = theta.clone()
    weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    a, b, theta = x.clone().requires_grad_(), x.clone().requires_grad_(), theta.requires_grad_()
    y, expected = module(a), formula(b, theta, 4)
    torch.testing.assert_close(y, expected)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(module.threshold.grad, theta.grad)


def test_it_trains() -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 4)
    y = (x[:, 0] + x[:, 1] > x[:, 2] + x[:, 3]).long()
    model = nn.Sequential(nn.Linear(4, 16), QCFS(4, 2.0), nn.Linear(16, 2))
    start = model[1].threshold.item()
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert model[1].threshold.item() != start
    snn = convert(model, [x], timesteps=4, recipe="qcfs")
    assert (snn.run(x).argmax(1) == y).double().mean() > 0.9


@pytest.mark.parametrize("shape", [(), (6,)])
@pytest.mark.parametrize("levels", [1, 2, 4, 8, 15])
def test_one_layer_equals_the_activation_exactly(levels: int, shape: tuple[int, ...]) -> None:
    """Inputs are odd multiples of 1/64 of the threshold: sums over time are exact, and no rate is a tie."""
    generator = torch.Generator().manual_seed(levels)
    x = (2 * torch.randint(-48, 112, (64, 6), generator=generator) + 1) / 64.0
    model = nn.Sequential(nn.Linear(6, 6, bias=False), QCFS(levels, torch.full(shape, 2.0)))
    nn.init.eye_(model[0].weight)
    snn = convert(model, [x], timesteps=levels, recipe="qcfs")
    torch.testing.assert_close(snn.run(x), model(x), rtol=0, atol=1e-6)
    assert torch.equal((snn.run(x) * levels / 2).round(), (model(x) * levels / 2).round())
    assert model(x).unique().numel() == levels + 1


@pytest.mark.parametrize("recipe", ["qcfs", "binary", "signed"])
def test_the_trained_threshold_is_that_of_the_neuron_whatever_the_recipe(recipe: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), QCFS(4, torch.rand(4, 1, 1) + 0.5), nn.Conv2d(4, 2, 3), QCFS(4, 3.0))
    snn = convert(model, [torch.randn(4, 2, 8, 8)], timesteps=4, recipe=recipe)
    first, second = snn.neurons().values()
    torch.testing.assert_close(first.threshold, model[1].threshold.detach())
    torch.testing.assert_close(second.threshold, model[3].threshold.detach())


class Clip(nn.Module):
    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x.relu(), self.theta)


@torch.no_grad()
def test_deep_networks_converge() -> None:
    """To the clipped ReLU as T grows, and to the quantised network as its levels do too."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 32)]
    head = nn.Linear(32, 4)
    x = torch.randn(64, 8)

    def net(levels: int) -> nn.Sequential:
        return nn.Sequential(*(m for layer in layers for m in (layer, QCFS(levels, 1.0))), head)

    clipped = nn.Sequential(*(m for layer in layers for m in (layer, Clip(torch.tensor(1.0)))), head)
    snn = convert(net(4), [x], timesteps=4, recipe="qcfs")
    errors = [float((snn.run(x, t) - clipped(x)).norm() / clipped(x).norm()) for t in (4, 32, 256)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01
    fine = net(256)
    found = verify(fine, convert(fine, [x], timesteps=256, recipe="qcfs"), x, timesteps=256, tolerance=0.01)
    assert found.converged, str(found)


def test_a_trained_threshold_that_is_not_positive_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), QCFS(4))
    model[1].threshold.data.fill_(-1.0)
    with pytest.raises(ValueError, match="trained threshold of 1"):
        convert(model, [torch.randn(2, 3)], recipe="qcfs")


@pytest.mark.parametrize(("arguments", "match"), [({"levels": 0}, "levels"), ({"threshold": 0.0}, "threshold")])
def test_misuse_is_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QCFS(**arguments)
