"""Recipes: thresholds and neurons of each, and equality with the library that one of them reproduces."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_convert import RECIPES, Recipe, braincog, convert, local_threshold_balancing, rate_coding, verify
from snn_layers import SpikeMaxPool
from snn_neurons import BurstNode, IFNode


def network(pool: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), pool or nn.AvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    nn.init.constant_(model[4].bias, 0.5)  # no channel is silent
    model(torch.randn(64, 2, 8, 8))
    return model.eval()


def batches() -> list[Tensor]:
    return [torch.randn(16, 2, 8, 8, generator=torch.Generator().manual_seed(i)) * (1 + i) for i in range(3)]


def activations(model: nn.Sequential) -> list[list[Tensor]]:
    """Of each ReLU, those of each batch, ``[C, samples]``."""
    return [
        [model[: i + 1](x).detach().transpose(0, 1).flatten(1) for x in batches()]
        for i, module in enumerate(model)
        if isinstance(module, nn.ReLU)
    ]


def found(model: nn.Module, recipe: str | Recipe) -> list[Tensor]:
    return [n.threshold for n in convert(model, batches(), recipe=recipe).neurons().values()]


def averaged(values: list[Tensor], momentum: float = 0.1) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = (1 - momentum) * result + momentum * value
    return result


@pytest.mark.parametrize(
    ("recipe", "statistic"),
    [
        (rate_coding(), lambda a: a.max()),
        (rate_coding("99.9%"), lambda a: a.flatten().quantile(0.999)),
        (rate_coding(0.7), lambda a: 0.7 * a.max()),
        (rate_coding("90%", channel_wise=True), lambda a: a.quantile(0.9, dim=1).view(-1, 1, 1)),
    ],
)
def test_rate_coding_averages_statistics_of_batches(recipe: Recipe, statistic: Any) -> None:
    model = network()
    for theta, values in zip(found(model, recipe), activations(model), strict=True):
        torch.testing.assert_close(theta, averaged([statistic(a) for a in values]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channelnorm", [False, True])
def test_braincog_takes_the_largest_percentile(channelnorm: bool) -> None:
    model, recipe = network(), braincog(0.9, channelnorm=channelnorm, gamma=3)
    for theta, values in zip(found(model, recipe), activations(model), strict=True):
        if channelnorm:
            rows = [a.quantile(0.9, dim=1, interpolation="lower").view(-1, 1, 1) for a in values]
            expected = torch.stack(rows).amax(0)
        else:
            expected = torch.stack([a.flatten().sort().values[int(a.numel() * 0.9) - 1] for a in values]).max()
        torch.testing.assert_close(theta, expected, rtol=1e-5, atol=1e-6)
    snn = convert(model, batches(), recipe=recipe)
    for neuron in snn.neurons().values():
        assert isinstance(neuron.node, BurstNode)
        assert neuron.node.gamma == 3
        assert neuron.initial == 0.0


def test_local_threshold_balancing_clips_layer_by_layer() -> None:
    model = network()
    first, second = torch.zeros(6, 1, 1), torch.zeros(4, 1, 1)
    for x in batches() * 2:
        a = model[:3](x)
        first = first + 2 * (a - first).clamp(min=0).mean((0, 2, 3)).view(-1, 1, 1)
        b = model[3:6](torch.minimum(a, first))
        second = second + 2 * (b - second).clamp(min=0).mean((0, 2, 3)).view(-1, 1, 1)
    for theta, expected in zip(found(model, local_threshold_balancing(passes=2)), (first, second), strict=True):
        torch.testing.assert_close(theta, expected.detach(), rtol=1e-5, atol=1e-6)


def test_the_graded_recipe_has_two_spikes_a_step_for_the_largest_output() -> None:
    model, x = network(), batches()
    for theta, binary in zip(found(model, "graded"), found(model, Recipe()), strict=True):
        assert (theta < 0.75 * binary).all()
    snn = convert(model, x, timesteps=4, recipe="graded")
    outputs = [theta.node(torch.full((4, 1, 1, 1, 1), 5.0)).max() for theta in snn.neurons().values()]
    assert outputs == [2.0, 2.0]


def test_hard_reset_happens() -> None:
    model, x = network(), batches()
    hard = convert(model, x, recipe=rate_coding(hard_reset=True))
    burst = convert(model, x, recipe=braincog(gamma=2, soft_mode=False))
    for snn in (hard, burst):
        node = next(iter(snn.neurons().values())).node
        node(torch.full((1, 1, 1, 1, 1), 1.7))
        assert float(node.v) == 0.0


def test_pools_of_spikes() -> None:
    model, x = network(nn.MaxPool2d(2)), batches()
    gated = convert(model, x, recipe=braincog(lipool=False))
    assert sum(isinstance(m, SpikeMaxPool) for m in gated.modules()) == 1
    lateral = convert(model, x, recipe=braincog())
    assert not any(isinstance(m, SpikeMaxPool) for m in lateral.modules())
    exact = braincog(1.0, lipool=False)
    assert verify(model, convert(model, x, recipe=exact), x[0], timesteps=512, tolerance=0.05).converged
    with pytest.raises(ValueError, match="dilation"):
        convert(network(nn.MaxPool2d(2, 2, 1, dilation=2)), x, recipe=braincog(lipool=False))


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_converts(name: str) -> None:
    model, x = network(), batches()
    snn = convert(model, x, timesteps=8, recipe=name)
    assert snn.run(x[0]).shape == (16, 3)
    assert torch.isfinite(snn.run(x[0])).all()


@pytest.mark.parametrize("mode", ["median", "%", "120%", 0.0, 2.0, ""])
def test_other_modes_are_refused(mode: str | float) -> None:
    with pytest.raises(ValueError, match="mode"):
        rate_coding(mode)


@pytest.mark.parametrize("momentum", [0.1, 0.5])
@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("mode", ["max", "99%", 0.8])
def test_rate_coding_equals_spikingjelly(mode: str | float, channel_wise: bool, momentum: float) -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.ann2snn", reason="spikingjelly is not installed")
    from spikingjelly.activation_based.ann2snn.modules import ChannelVoltageScaler, VoltageScaler
    from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe

    model, x = network(), batches()
    theirs = peer.Converter(RateCodingRecipe(x, mode, momentum, channel_wise=channel_wise)).convert(
        copy.deepcopy(model)
    )
    kind = ChannelVoltageScaler if channel_wise else VoltageScaler
    scales = [m.scale for name, m in theirs.named_modules() if isinstance(m, kind) and name.endswith("scaler1")]
    snn = convert(model, x, recipe=rate_coding(mode, momentum=momentum, channel_wise=channel_wise))
    for neuron, scale in zip(snn.neurons().values(), scales, strict=True):
        torch.testing.assert_close(neuron.threshold.flatten(), scale.flatten(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        out = sum(theirs(x[0]) for _ in range(16)) / 16
        torch.testing.assert_close(snn.run(x[0], 16), out, rtol=1e-3, atol=1e-3)


def test_local_threshold_balancing_equals_spikingjelly() -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.ann2snn", reason="spikingjelly is not installed")
    from spikingjelly.activation_based.ann2snn.modules import ChannelVoltageScaler
    from spikingjelly.activation_based.ann2snn.recipes import LocalThresholdBalancingRecipe

    model, x = network(), batches()
    theirs = peer.Converter(LocalThresholdBalancingRecipe(x)).convert(copy.deepcopy(model))
    named = theirs.named_modules()
    scales = [m.scale for name, m in named if isinstance(m, ChannelVoltageScaler) and name.endswith("scaler1")]
    for theta, scale in zip(found(model, "local_threshold_balancing"), scales, strict=True):
        torch.testing.assert_close(theta.flatten(), scale.flatten(), rtol=1e-5, atol=1e-6)


def test_a_recipe_of_ones_own_neuron_class() -> None:
    """A class of snn-neurons behind the factory."""

    def adaptive() -> IFNode:
        return IFNode(v_reset=None, v_threshold=1.0, step_mode="m", store_v_seq=True)

    model, x = network(), batches()
    snn = convert(model, x, timesteps=8, recipe=Recipe(neuron=adaptive))
    plain = convert(model, x, timesteps=8, recipe=Recipe())
    torch.testing.assert_close(snn.run(x[0]), plain.run(x[0]))
    assert all(n.node.store_v_seq for n in snn.neurons().values())
