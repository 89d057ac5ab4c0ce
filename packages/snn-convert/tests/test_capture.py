"""Capture: by torch.export, by torch.fx where that refuses, and the reasons of both otherwise."""

import pytest
import torch
from torch import Tensor, nn

from snn_convert import CaptureError, MaxObserver, Recipe, convert, verify
from snn_convert.capture import capture


class Guarded(nn.Module):
    """Looks at the values of its input, which export refuses, where it is given a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor) and bool(torch.isnan(x).any()):
            raise ValueError("x has nan")
        return self.last(self.first(x).relu())


class Branching(nn.Module):
    """Goes one way or the other by its data, which no graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu() if x.sum() > 0 else self.linear(-x).relu()


def test_fx_traces_what_export_refuses() -> None:
    torch.manual_seed(0)
    model, x = Guarded().eval(), torch.randn(8, 4)
    with pytest.raises(Exception, match=r"(?i)data-dependent|guard|symbol"):
        torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
    torch.testing.assert_close(capture(model, x)(x), model(x))
    snn = convert(model, [x], timesteps=256, recipe=Recipe(observer=MaxObserver))
    assert verify(model, snn, x, tolerance=0.02).converged


def test_control_flow_by_data_is_refused_with_both_reasons() -> None:
    with pytest.raises(CaptureError, match=r"(?s)Branching cannot.*torch\.export says.*torch\.fx says"):
        capture(Branching(), torch.randn(2, 4))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_takes_any_batch(batch: int) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).train()
    network = capture(model, torch.randn(batch, 1, 4, 4))
    assert model.training
    for n in (1, 3):
        x = torch.randn(n, 1, 4, 4)
        torch.testing.assert_close(network(x), model(x))
