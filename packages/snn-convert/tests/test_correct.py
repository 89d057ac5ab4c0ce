"""Bias correction and membrane calibration against sums written out."""

import pytest
import torch
from torch import Tensor, nn

from snn_base import reset_net
from snn_convert import MaxObserver, Recipe, convert
from snn_convert.capture import capture
from snn_convert.correct import channel_mean, correct
from snn_convert.neuron import ConvertedNeuron, if_neuron
from snn_convert.unroll import unroll, worth_at_once

T = 4


def spikes(current: Tensor, theta: Tensor, v: Tensor) -> Tensor:
    """Mean output of integrate-and-fire with soft reset, ``current [T, N, C]``, in the units of the current."""
    v = v * theta * torch.ones_like(current[0])
    out = []
    for i in current:
        v = v + i
        s = (v >= theta).double()
        v = v - s * theta
        out.append(s * theta)
    return torch.stack(out)


@pytest.mark.parametrize(("bias", "membrane"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("samples", [9, 70])
def test_two_layers_by_hand(bias: bool, membrane: bool, rounds: int, samples: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()).double()
    x = torch.randn(samples, 3, dtype=torch.float64)
    a1 = model[:2](x)
    a2 = model(x)
    thetas = [(0.5 * a.amax(0)).clamp(min=0.1) for a in (a1, a2)]  # low, so that there is something to correct

    offsets, starts = [], []
    current = model[0](x).expand(T, -1, -1)
    for layer, (a, theta) in enumerate(zip((a1, a2), thetas, strict=True)):
        offset, start = torch.zeros_like(theta), torch.full_like(theta, 0.5)
        for _ in range(rounds):
            error = (a - spikes(current + offset, theta, start).mean(0)).mean(0)
            if bias:
                offset = offset + error
            if membrane:
                start = (start + T * error / theta).clamp(-1, 2)
        offsets.append(offset)
        starts.append(start)
        if layer == 0:
            current = spikes(current + offset, theta, start) @ model[2].weight.T + model[2].bias

    network = capture(model, x)
    names = [n.name for n in network.graph.nodes if n.op == "call_function" and "relu" in str(n.target)]
    neurons = {n: ConvertedNeuron(if_neuron(), theta) for n, theta in zip(names, thetas, strict=True)}
    spiking = unroll(network, neurons)
    correct(network, spiking, x, T, bias=bias, membrane=membrane, rounds=rounds)
    for neuron, offset, start in zip(neurons.values(), offsets, starts, strict=True):
        torch.testing.assert_close(neuron.offset, offset.detach(), rtol=1e-9, atol=1e-9)
        found = neuron.initial if isinstance(neuron.initial, Tensor) else torch.full_like(start, neuron.initial)
        torch.testing.assert_close(found, start.detach(), rtol=1e-9, atol=1e-9)


def test_the_mean_is_over_all_but_channels() -> None:
    a = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(channel_mean(a), a.transpose(0, 1).flatten(1).mean(1).view(3, 1, 1))


@pytest.mark.parametrize("options", [{"bias_correction": True}, {"membrane_calibration": True}])
def test_corrections_bring_the_means_nearer(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU()]
    model, x = nn.Sequential(*layers).eval(), torch.randn(worth_at_once(torch.zeros(())) + 6, 2, 12, 12)

    def error(recipe: Recipe) -> float:
        snn = convert(model, [x], timesteps=T, recipe=recipe)
        return float((channel_mean(snn.run(x)) - channel_mean(model(x))).detach().norm())

    def observer() -> MaxObserver:
        return MaxObserver(per_channel=True)

    corrected = Recipe(observer, correction_samples=len(x), **options)
    assert error(corrected) < 0.5 * error(Recipe(observer))


def test_memories_are_reset_afterwards() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 3)
    snn = convert(model, [x])
    first = snn.program(x, T)
    reset_net(snn)
    torch.testing.assert_close(snn.program(x, T), first)
