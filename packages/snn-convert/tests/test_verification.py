"""Small networks of many architectures, converted and compared layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_convert import MaxObserver, Recipe, UnsupportedOpsError, check, convert, verify

EXACT = Recipe(observer=lambda: MaxObserver(per_channel=True))


def conv(i: int, o: int, k: int = 3, act: bool = True, **options: int) -> nn.Sequential:
    options.setdefault("padding", k // 2)
    layers = [nn.Conv2d(i, o, k, bias=False, **options), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 5))


class Residual(nn.Module):
    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut or nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


class Cat(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([b(x) for b in self.branches], 1)


class DenseLayer(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(3, 6), conv(6, 8), conv(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.mix, self.last = conv(14, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.third(F.interpolate(self.second(F.max_pool2d(a, 4)), scale_factor=2))
        return self.last(self.mix(torch.cat([a, self.up(b)], 1)))


class Shuffle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        h = width // 2
        self.branch = nn.Sequential(conv(h, h, 1), conv(h, h, act=False, groups=h), conv(h, h, 1))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def inverted(i: int, o: int) -> nn.Sequential:
    wide = 3 * i
    return nn.Sequential(
        nn.Conv2d(i, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(),
        nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6(),
        nn.Conv2d(wide, o, 1), nn.BatchNorm2d(o),
    )  # fmt: skip


NETS = {
    "vgg": lambda: nn.Sequential(conv(3, 6), nn.MaxPool2d(2), conv(6, 8), nn.MaxPool2d(2), head(8)),
    "resnet18": lambda: nn.Sequential(
        conv(3, 6, stride=2), nn.MaxPool2d(3, 2, 1),
        Residual(nn.Sequential(conv(6, 6), conv(6, 6, act=False))),
        Residual(nn.Sequential(conv(6, 8, stride=2), conv(8, 8, act=False)), conv(6, 8, 1, False, stride=2)), head(8),
    ),
    "bottleneck": lambda: nn.Sequential(
        conv(3, 8), Residual(nn.Sequential(conv(8, 4, 1), conv(4, 4), conv(4, 8, 1, False))), head(8)
    ),
    "mobilenet": lambda: nn.Sequential(conv(3, 6), inverted(6, 8), inverted(8, 8), nn.ReLU6(), head(8)),
    "densenet": lambda: nn.Sequential(
        conv(3, 6), DenseLayer(6, 4), DenseLayer(10, 4), nn.BatchNorm2d(14), nn.ReLU(), nn.AvgPool2d(2), head(14)
    ),
    "inception": lambda: nn.Sequential(
        conv(3, 6),
        Cat(conv(6, 4, 1), conv(6, 4, 3), conv(6, 4, 5), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(6, 4, 1))), head(16),
    ),
    "squeezenet": lambda: nn.Sequential(
        conv(3, 6), nn.MaxPool2d(3, 2, ceil_mode=True), conv(6, 3, 1), Cat(conv(3, 4, 1), conv(3, 4)), head(8)
    ),
    "unet": UNet,
    "shufflenet": lambda: nn.Sequential(conv(3, 8), Shuffle(8), Shuffle(8), head(8)),
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(768, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)
    ),
    "conv1d": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 5, dilation=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(6, 6, 3, groups=2), nn.BatchNorm1d(6), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(6, 5),
    ),
    "conv3d": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5),
    ),
}  # fmt: skip


def trained(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = NETS[name](), torch.randn(6, 3, 16, 16)
    for _ in range(3):
        model(x)  # running statistics of BatchNorm
    return model.eval(), x


@pytest.mark.parametrize("name", NETS)
def test_architecture_converges_layer_by_layer(name: str) -> None:
    model, x = trained(name)
    snn = convert(model, [x], timesteps=512, recipe=EXACT)
    found = verify(model, snn, x, timesteps=512)
    assert found.converged, str(found)
    assert len(found.layers) == len(snn.neurons()) + 1


def test_the_first_layer_that_does_not_converge_is_named() -> None:
    model, x = trained("vgg")
    snn = convert(model, [x], timesteps=64, recipe=EXACT)
    second = list(snn.neurons())[1]
    snn.neurons()[second].threshold.mul_(0.1)
    found = verify(model, snn, x)
    assert not found.converged
    assert found.first is not None
    assert found.first.name == second
    assert "first that does not converge" in str(found)


def test_a_network_of_another_model_is_refused() -> None:
    model, x = trained("vgg")
    snn = convert(model, [x], recipe=EXACT)
    with pytest.raises(ValueError, match="not converted from model"):
        verify(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), snn, x)
    with pytest.raises(ValueError, match="timesteps"):
        verify(model, snn, x, timesteps=0)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.act = nn.LayerNorm(8), nn.Linear(8, 24), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2)[..., :3].repeat(1, 1, 3)[..., :8])
        q, k, v = self.qkv(tokens).chunk(3, -1)
        return self.act(F.scaled_dot_product_attention(q, k, v))


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.norm = nn.Conv2d(3, 8, 7, padding=3), nn.LayerNorm(8)
        self.wide, self.act, self.back = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.act(self.wide(self.norm(self.deep(x).permute(0, 2, 3, 1)))))


@pytest.mark.parametrize(
    ("model", "expected"),
    [(Attention, {"layer_norm", "scaled_dot_product_attention", "gelu"}), (ConvNeXt, {"layer_norm", "gelu"})],
)
def test_transformer_like_networks_are_refused_with_the_complete_list(
    model: type[nn.Module], expected: set[str]
) -> None:
    x = torch.randn(2, 3, 16, 16)
    report = check(model(), x)
    assert {op.op.removeprefix("native_") for op in report.unsupported} == expected
    for op in report.unsupported:
        assert "test_verification.py:" in op.source or op.module
        assert op.reason
    with pytest.raises(UnsupportedOpsError, match="gelu"):
        convert(model(), [x])


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(torch.relu(self.c(self.relu(self.b(F.relu(self.relu(self.a(x)))))).relu()))


def test_every_call_has_its_own_neuron_and_the_model_is_untouched() -> None:
    torch.manual_seed(0)
    model, x = Calls().train(), torch.randn(32, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    snn = convert(model, [x], timesteps=512, recipe=EXACT)
    assert len(snn.neurons()) == 5
    assert verify(model, snn, x, timesteps=512).converged
    assert model.training
    for k, v in model.state_dict().items():
        assert torch.equal(v, before[k])


def test_no_state_leaks_between_batches_of_any_size() -> None:
    model, x = trained("resnet18")
    snn = convert(model, [x])
    alone = snn.run(x[:1])
    snn.run(x)
    torch.testing.assert_close(snn.run(x[:1]), alone)
    torch.testing.assert_close(snn.run(x)[:1], alone)


@pytest.mark.parametrize("seed", range(6))
def test_maximum_poolings_of_any_window_converge(seed: int) -> None:
    torch.manual_seed(seed)
    kernel = 2 + seed % 3
    pool = nn.MaxPool2d(kernel, 1 + seed % 2, padding=seed % 2, dilation=1 + seed // 3)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), pool, nn.Conv2d(6, 4, 3), nn.ReLU(), head(4)).eval()
    x = torch.randn(8, 3, 14, 14)
    snn = convert(model, [x], timesteps=256, recipe=EXACT)
    assert verify(model, snn, x, timesteps=256).layers[-1].error < 0.01


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, 0), lambda x: {"image": x, "label": 0}])
def test_batches_of_every_form_give_the_same_network(wrap) -> None:
    model, x = trained("mlp")
    expected = convert(model, [x]).run(x)
    torch.testing.assert_close(convert(model, [wrap(x)]).run(x), expected)


def test_misuse_is_named() -> None:
    model, x = trained("mlp")
    with pytest.raises(ValueError, match="no batch"):
        convert(model, [])
    with pytest.raises(TypeError, match="tensors"):
        convert(model, ["x"])
    with pytest.raises(ValueError, match="timesteps"):
        convert(model, [x], timesteps=0)
    with pytest.raises(ValueError, match="recipe"):
        convert(model, [x], recipe="none")
