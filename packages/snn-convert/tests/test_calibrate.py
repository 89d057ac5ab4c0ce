"""Calibration: forms of data, devices, clips, neurons for each call."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from snn_convert import MaxObserver, Recipe, convert, verify
from snn_convert.calibrate import inputs, reiterable

EXACT = Recipe(observer=lambda: MaxObserver(per_channel=True))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)).eval()


class Counting:
    """Batches made afresh at every iteration."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.alive, self.most, self.iterations = x, 0, 0, 0

    def __iter__(self) -> Iterator[Tensor]:
        self.iterations += 1
        yield from self.x.split(4)


def test_data_that_can_be_read_again_are_not_kept() -> None:
    model, x = mlp(), torch.randn(32, 6)
    data = Counting(x)
    assert reiterable(data) is data
    expected = convert(model, list(x.split(4))).run(x)
    torch.testing.assert_close(convert(model, data).run(x), expected)
    assert data.iterations >= 2
    torch.testing.assert_close(convert(model, iter(data)).run(x), expected)
    torch.testing.assert_close(convert(model, (batch for batch in x.split(4))).run(x), expected)
    torch.testing.assert_close(convert(model, DataLoader(TensorDataset(x), 4)).run(x), expected)


def test_passes_show_the_data_again() -> None:
    seen: list[Tensor] = []

    class Watching(MaxObserver):
        def observe(self, values: Tensor) -> None:
            seen.append(values)
            super().observe(values)

    convert(mlp(), torch.randn(8, 6).split(4), recipe=Recipe(observer=Watching, passes=3))
    assert len(seen) == 2 * 2 * 3  # activations, batches, passes


class Travelling(Tensor):
    """A batch that remembers where it was sent."""

    sent: list[Any]

    @staticmethod
    def of(x: Tensor, sent: list[Any]) -> "Travelling":
        self = torch.Tensor._make_subclass(Travelling, x)
        self.sent = sent
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        self.sent.append(args[0])
        return self.as_subclass(Tensor)


def test_batches_go_to_the_device_of_the_model() -> None:
    model, x, sent = mlp(), torch.randn(8, 6), []
    convert(model, [Travelling.of(x, sent), (Travelling.of(x, sent), 0)])
    assert len(sent) >= 3
    assert set(sent) == {next(model.parameters()).device}
    (moved,) = inputs([x], torch.device("meta"))
    assert moved.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_spiking_network_has_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    model, x = mlp().to(dtype), torch.randn(8, 6, dtype=dtype)
    snn = convert(model, [x])
    assert snn.run(x).dtype == dtype
    assert {n.threshold.dtype for n in snn.neurons().values()} == {dtype}


@pytest.mark.parametrize(
    ("activation", "clip"),
    [
        (nn.ReLU6(), 6.0),
        (nn.Hardtanh(0.0, 2.0), 2.0),
        (lambda x: x.clamp(0, 1.5), 1.5),
        (lambda x: F.hardtanh(x, 0.0, 3.0), 3.0),
        (lambda x: torch.clamp(x, min=0.0), None),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_clip_is_the_threshold_where_it_is_reached(activation: Any, clip: float | None, scale: float) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3, bias=False)
            nn.init.eye_(self.linear.weight)
            self.activation = activation

        def forward(self, x: Tensor) -> Tensor:
            return self.activation(self.linear(x))

    x = torch.tensor([[0.1, 0.5, 0.9], [-0.5, 0.9, 0.3]]) * scale
    snn = convert(Net(), [x], timesteps=64, recipe=Recipe(observer=MaxObserver))
    (neuron,) = snn.neurons().values()
    largest = float(x.max())
    assert neuron.threshold.item() == pytest.approx(largest if clip is None else min(largest, clip))
    torch.testing.assert_close(snn.run(x), Net()(x), rtol=0, atol=largest / 64)


def test_a_silent_channel_takes_the_threshold_of_its_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    nn.init.eye_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    snn = convert(model, [torch.tensor([[2.0, -1.0], [1.0, -3.0]])], recipe=EXACT)
    (neuron,) = snn.neurons().values()
    assert neuron.threshold.flatten().tolist() == [2.0, 2.0]


@torch.no_grad()
def test_a_shared_relu_has_a_neuron_for_each_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.b(self.relu(self.a(x))) * 10)

    torch.manual_seed(0)
    model, x = Shared(), torch.randn(16, 6)
    snn = convert(model, [x], timesteps=256, recipe=Recipe(observer=MaxObserver))
    first, second = snn.neurons().values()
    assert first.node is not second.node
    assert first.threshold.item() == pytest.approx(float(model.a(x).max()))
    assert second.threshold.item() == pytest.approx(float(model(x).max()))
    assert verify(model, snn, x, tolerance=0.02).converged
