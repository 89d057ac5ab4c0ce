"""Readouts, batches, steps and compilation of a converted network."""

import pytest
import torch
from torch import nn

from snn_convert import SpikingModel, convert


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    ).eval()


@pytest.fixture(scope="module")
def x():
    return torch.rand(9, 2, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def snn(model, x):
    return convert(model, [x], timesteps=6)


@torch.no_grad()
def test_readouts(snn, x):
    steps = snn.run(x, per_step=True)
    assert steps.shape == (6, 9, 3)
    torch.testing.assert_close(snn.run(x), steps.mean(0))
    snn.readout = "sum"
    torch.testing.assert_close(snn.run(x), steps.sum(0))
    snn.readout = "potential"
    torch.testing.assert_close(snn.run(x), steps.sum(0))
    torch.testing.assert_close(snn.run(x, per_step=True), steps.cumsum(0))
    with pytest.raises(ValueError, match="readout must be 'mean', 'sum' or 'potential', got 'max'"):
        snn.readout = "max"
    with pytest.raises(ValueError, match="readout must be"):
        SpikingModel(snn.program, 4, "first")


@torch.no_grad()
def test_any_batch_any_chunk_and_step_by_step(snn, x):
    whole = snn.run(x, 7, per_step=True)
    for chunk in (1, 3, 100):
        snn.chunk = chunk
        torch.testing.assert_close(snn.run(x, 7, per_step=True), whole)
    torch.testing.assert_close(snn.run(x[:1], 7), whole.mean(0)[:1])
    snn.reset()
    torch.testing.assert_close(torch.stack([snn.step(x) for _ in range(7)]), whole)
    # A run starts from a reset, whatever came before.
    torch.testing.assert_close(snn.run(x[2:4], 7), whole.mean(0)[2:4])
    with pytest.raises(ValueError, match="timesteps must be at least 1, got 0"):
        snn.run(x, 0)


@torch.no_grad()
def test_many_steps_come_to_the_network(model, x):
    snn = convert(model, [x], timesteps=256, recipe="signed")
    wanted = model(x)
    errors = [float((snn.run(x, steps) - wanted).norm() / wanted.norm()) for steps in (8, 64, 512)]
    assert errors[0] > errors[2]
    assert errors[2] < 0.02


@torch.no_grad()
def test_a_compiled_network_runs_the_same(snn, x):
    torch._dynamo.reset()
    compiled = torch.compile(snn, backend="aot_eager")
    for part in (x, x[:4]):
        torch.testing.assert_close(compiled(part), snn(part))


@torch.no_grad()
def test_precision_follows_the_module(model, x):
    double = convert(model.double(), [x.double()], timesteps=6)
    assert double.run(x.double()).dtype == torch.float64
    model.float()
    single = double.float()
    torch.testing.assert_close(single.run(x), double.float().run(x))
