"""BatchNorm folded where it can be, left where it can't, and right in either case."""

import pytest
import torch
from torch import Tensor, nn

from snn_convert import Recipe, check, convert, verify
from snn_convert.capture import capture
from snn_convert.fold import fold_batch_norm
from snn_convert.observers import MaxObserver

EXACT = Recipe(observer=lambda: MaxObserver(per_channel=True))


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """Give every BatchNorm statistics and affine parameters that change something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    for _ in range(3):
        model(x)
    return model.eval()


class Branches(nn.Module):
    """One convolution read by a norm and by an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (self.norm(y) + y).relu()


class TwiceWithTwoNorms(nn.Module):
    """One convolution called twice, with a norm of its own at each call; norms are defined in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(x)).relu())).relu()


PADDED = {"padding": 1}
FOLDED = {
    "grouped": (lambda: [nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)], 1),
    "depthwise": (lambda: [nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8)], 1),
    "dilated": (lambda: [nn.Conv2d(4, 6, 3, dilation=2, **PADDED), nn.BatchNorm2d(6)], 1),
    "strided": (lambda: [nn.Conv2d(4, 6, 3, 2, **PADDED), nn.BatchNorm2d(6)], 1),
    "same": (lambda: [nn.Conv2d(4, 6, 3, padding="same", dilation=2), nn.BatchNorm2d(6)], 1),
    "reflected": (lambda: [nn.Conv2d(4, 6, 3, padding_mode="reflect", **PADDED), nn.BatchNorm2d(6)], 1),
    "transposed": (lambda: [nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6)], 1),
    "transposed, grouped": (
        lambda: [nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, groups=2, bias=False), nn.BatchNorm2d(6)],
        1,
    ),
    "transposed, dilated": (lambda: [nn.ConvTranspose2d(4, 6, 3, dilation=2), nn.BatchNorm2d(6)], 1),
    "without affine parameters": (lambda: [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False, eps=0.1)], 1),
    "two in a row": (lambda: [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)], 2),
    "linear": (lambda: [nn.Flatten(), nn.Linear(256, 6), nn.BatchNorm1d(6)], 1),
    "convolution without norm": (lambda: [nn.Conv2d(4, 6, 3)], 0),
    "norm without convolution": (lambda: [nn.BatchNorm2d(4)], 0),
    "norm before a padded convolution": (lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, **PADDED)], 0),
    "norm before a padded convolution and its norm": (
        lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, **PADDED), nn.BatchNorm2d(6)],
        1,
    ),
    "linear on the last of three dims": (lambda: [nn.Flatten(2), nn.Linear(64, 4), nn.BatchNorm1d(4)], 0),
    "convolution read twice": (lambda: [Branches()], 0),
    "convolution called twice": (lambda: [TwiceWithTwoNorms()], 2),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folding_leaves_what_the_network_computes(name: str) -> None:
    torch.manual_seed(0)
    make, folded = FOLDED[name]
    x = torch.randn(5, 4, 8, 8) + 0.5
    model = settled(nn.Sequential(*make(), nn.ReLU()), x)
    network = capture(model, x)
    expected = model(x)
    assert fold_batch_norm(network) == folded
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    left = sum("batch_norm" in str(node.target) for node in network.graph.nodes if node.op == "call_function")
    assert left == sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules()) - folded


@pytest.mark.parametrize("name", FOLDED)
def test_the_spiking_network_converges_either_way(name: str) -> None:
    """A second layer reads spikes, so that shifts of unfolded norms count once for each step and no more."""
    torch.manual_seed(0)
    make, _ = FOLDED[name]
    x = torch.randn(5, 4, 8, 8)
    model = settled(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), *make(), nn.ReLU()), x)
    snn = convert(model, [x], timesteps=256, recipe=EXACT)
    found = verify(model, snn, x, timesteps=256, tolerance=0.03)
    assert found.converged, str(found)


def test_a_norm_of_the_batch_at_hand_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU())
    report = check(model, torch.randn(2, 4, 8, 8))
    assert not report.supported
    assert "batch_norm" in report.unsupported[0].op
