import copy

import pytest
import torch
from torch import nn

import snn_layers as sl
from snn_base import reset_net


def train_a_little(net, x):
    net.train()
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            if m.affine:
                nn.init.uniform_(m.weight, 0.5, 2.0)
                nn.init.normal_(m.bias)
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2.0)
    return net.double().eval()


CONVS = {
    "1d": (lambda: nn.Conv1d(4, 6, 3, groups=2, dilation=2), nn.BatchNorm1d(6), (2, 4, 9)),
    "2d": (lambda: nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 7, 7)),
    "2d plain": (lambda: nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (2, 4, 7, 7)),
    "3d": (lambda: nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6), (2, 4, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "linear": (lambda: nn.Linear(4, 6), nn.BatchNorm1d(6), (3, 4)),
}


@pytest.mark.parametrize("name", CONVS)
def test_neighbours_are_folded_exactly(name):
    torch.manual_seed(0)
    make, norm, shape = CONVS[name]
    net = train_a_little(nn.Sequential(make(), copy.deepcopy(norm), nn.ReLU()), None)
    before = copy.deepcopy(net.state_dict())
    fused = sl.fuse_conv_bn(net)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(fused(x), net(x))
    assert isinstance(fused[1], nn.Identity)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("norm", ["BatchNorm", "ThresholdDependentBatchNorm", "TemporalEffectiveBatchNorm"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_convolution_takes_every_norm(dims, kind, groups, dilation, bias, affine, norm):
    torch.manual_seed(0)
    conv = getattr(sl, f"{kind}{dims}d")(4, 6, 2, groups=groups, dilation=dilation, bias=bias, step_mode="m")
    steps = (5,) if norm.startswith("Temporal") else ()
    after = getattr(sl, f"{norm}{dims}d")(6, *steps, affine=affine, step_mode="m")
    net = train_a_little(nn.Sequential(conv, after), None)
    fused = sl.fuse_conv_bn(net)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in fused.modules())
    x = torch.randn(3, 2, 4, *[5] * dims, dtype=torch.float64)
    torch.testing.assert_close(fused(x), net(x))


def test_temporal_norms_keep_their_scale_per_step():
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.Conv2d(2, 4, 3, step_mode="m"),
        sl.ThresholdDependentBatchNorm2d(4, v_threshold=0.7, step_mode="m"),
        sl.Conv2d(4, 4, 3, step_mode="m"),
        sl.TemporalEffectiveBatchNorm2d(4, 6, step_mode="m"),
    )
    nn.init.normal_(net[3].scale.p)
    train_a_little(net, None)
    fused = sl.fuse_conv_bn(net)
    x = torch.randn(5, 2, 2, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(fused(x), net(x))
    assert isinstance(fused[3], sl.StepScale)
    reset_net(net), reset_net(fused)


class Residual(nn.Module):
    """Batch norms defined in another order than they run, one convolution with a second use, one shared norm."""

    def __init__(self):
        super().__init__()
        self.bn2, self.bn1, self.bn3 = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        y = self.conv2(x)
        return self.bn2(y) + y + self.bn3(self.conv3(self.conv3(x)))


def test_only_pairs_that_run_after_one_another_are_folded():
    torch.manual_seed(0)
    net = train_a_little(Residual(), None)
    fused = sl.fuse_conv_bn(net)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fused(x), net(x))
    assert isinstance(fused.bn1, nn.Identity)
    assert isinstance(fused.bn2, nn.BatchNorm2d)  # its convolution is used twice
    assert isinstance(fused.bn3, nn.BatchNorm2d)


def test_a_norm_without_statistics_is_left():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert isinstance(sl.fuse_conv_bn(net)[1], nn.BatchNorm2d)
    with pytest.raises(ValueError, match="running statistics"):
        sl.fold_batch_norm(net[0], net[1])
    with pytest.raises(ValueError, match="num_features = 3, the layer 2 channels"):
        sl.fold_batch_norm(net[0], nn.BatchNorm2d(3))


@pytest.mark.parametrize("affine", [True, False])
def test_fused_weight_and_bias_are_scaled_as_said(affine):
    torch.manual_seed(0)
    layer = train_a_little(sl.ConvBatchNorm2d(3, 4, 3, groups=1, affine=affine), None)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(layer.get_fused_conv()(x), layer(x))
    weight, bias = layer.get_fused_weight().clone(), layer.get_fused_bias().clone()
    layer.scale_fused_weight(2.0, 0.1)
    layer.scale_fused_bias(3.0, -0.2)
    torch.testing.assert_close(layer.get_fused_weight(), 2 * weight + 0.1)
    torch.testing.assert_close(layer.get_fused_bias(), 3 * bias - 0.2)
    expected = nn.functional.conv2d(x, 2 * weight + 0.1, 3 * bias - 0.2)
    torch.testing.assert_close(layer(x), expected)
    fused = sl.fuse_conv_bn(nn.Sequential(layer))
    assert isinstance(fused[0], nn.Conv2d)
    torch.testing.assert_close(fused(x), expected)
