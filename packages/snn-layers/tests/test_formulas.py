"""Each layer against its formula, written out in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snn_layers as sl
from snn_base import reset_net

D = torch.float64


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("scale", "power"), [("paper", 2), ("mean", 1)])
def test_neunorm(scale, power, spikes):
    s = spikes(6, 2, 3, 4, 4, dtype=D)
    layer = sl.NeuNorm(3, 4, 4, 0.8, scale=scale, step_mode="m").double()
    x, rows = torch.zeros(2, 1, 4, 4, dtype=D), []
    for t in range(6):
        x = 0.8 * x + 0.2 / 3**power * s[t].sum(1, keepdim=True)
        rows.append(s[t] - layer.w * x)
    torch.testing.assert_close(layer(s), torch.stack(rows))
    reset_net(layer)
    assert torch.autograd.gradcheck(lambda v: (reset_net(layer), layer(v))[1], s[:2, :1].clone().requires_grad_())


def test_dct_by_its_definition():
    n, x = 4, rand(2, 3, 8, 12)
    layer = sl.DCT2d(n).double()
    k = torch.tensor(
        [
            [math.sqrt((1 if i == 0 else 2) / n) * math.cos((j + 0.5) * math.pi * i / n) for j in range(n)]
            for i in range(n)
        ],
        dtype=D,
    )
    expected = torch.empty_like(x)
    for a in range(0, 8, n):
        for b in range(0, 12, n):
            expected[..., a : a + n, b : b + n] = k @ x[..., a : a + n, b : b + n] @ k.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)
    assert "kernel" in layer.state_dict()
    with pytest.raises(ValueError, match=r"multiples of kernel_size = 4, got \(2, 6, 8\)"):
        layer(rand(2, 6, 8))


def test_axat_and_masked_linear():
    layer = sl.AXAT(4, 3).double()
    x = rand(2, 5, 4, 4)
    torch.testing.assert_close(layer(x), torch.einsum("ij,bcjk,lk->bcil", layer.weight, x, layer.weight))
    weight, mask = rand(3, 4), (rand(3, 4, seed=1) > 0.5).to(D)
    masked = sl.MaskedLinear(weight, mask)
    x = rand(2, 4)
    torch.testing.assert_close(masked(x), x @ (weight * mask).T)
    dw = torch.ones(3, 4, dtype=D)
    masked.update(dw)
    assert torch.equal(dw, torch.ones(3, 4, dtype=D))
    torch.testing.assert_close(masked.weight.detach(), weight + mask)
    assert "mask" in masked.state_dict()
    for bad, message in ((rand(3), "weight must be"), (rand(3, 4), "mask must broadcast")):
        with pytest.raises(ValueError, match=message):
            sl.MaskedLinear(bad, rand(2, 2))
    with pytest.raises(ValueError, match=r"dw must have shape \(3, 4\), got \(4, 3\)"):
        masked.update(rand(4, 3))


@pytest.mark.parametrize("kind", ["saturating", "linear"])
def test_synapse_filter(kind, spikes):
    s = spikes(7, 2, 3, dtype=D)
    layer = sl.SynapseFilter(4.0, kind=kind, step_mode="m")
    i, rows = torch.zeros(2, 3, dtype=D), []
    for t in range(7):
        i = (i - (1 - s[t]) * i / 4 + s[t]) if kind == "saturating" else ((1 - 1 / 4) * i + s[t])
        rows.append(i)
    y = layer(s)
    torch.testing.assert_close(y, torch.stack(rows))
    kept = y.clone()
    layer.detach()
    assert torch.equal(y, kept)
    learnt = sl.SynapseFilter(4.0, kind=kind, learnable=True, step_mode="m").double()
    torch.testing.assert_close(learnt(s).detach(), y)
    assert learnt.tau == pytest.approx(4.0)
    for tau in (0.5, math.inf):
        with pytest.raises(ValueError, match=f"tau must be at least 1 step, got {tau}"):
            sl.SynapseFilter(tau)
    with pytest.raises(ValueError, match="kind"):
        sl.SynapseFilter(kind="other")


@pytest.mark.parametrize("space", [(), (5,), (4, 3)])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_channel_pool(space, kind):
    x = rand(2, 3, 6, *space)  # [T, N, C, ...]
    pool = nn.MaxPool1d(3, 2, 1) if kind == "max" else nn.AvgPool1d(3, 2, 1)
    rows = x.reshape(6, 6, -1).transpose(1, 2)
    expected = pool(rows.reshape(-1, 1, 6)).view(6, rows.shape[1], -1).transpose(1, 2).reshape(2, 3, -1, *space)
    torch.testing.assert_close(sl.ChannelPool(pool, step_mode="m")(x), expected)
    with pytest.raises(ValueError, match="pool must be"):
        sl.ChannelPool(nn.MaxPool2d(2))


def test_drop_connect():
    layer = sl.DropConnectLinear(4, 3, p=0.25, activation=None, step_mode="m").double()
    x = rand(2, 5, 4)
    layer.eval()
    torch.testing.assert_close(layer(x), 0.75 * F.linear(x, layer.weight, layer.bias))
    layer = sl.DropConnectLinear(4, 3, p=0.25, samples_num=4000, generator=torch.Generator().manual_seed(0)).double()
    layer.eval()
    mu = 0.75 * F.linear(x[0], layer.weight, layer.bias)
    sigma = (0.25 * 0.75 * F.linear(x[0] ** 2, layer.weight**2, layer.bias**2)).sqrt()
    z = mu / sigma
    normal = torch.distributions.Normal(torch.zeros((), dtype=D), torch.ones((), dtype=D))
    expected = mu * normal.cdf(z) + sigma * normal.log_prob(z).exp()  # the mean of relu of a normal variable
    torch.testing.assert_close(layer(x[0]), expected, rtol=0.05, atol=0.01)
    layer.train()
    draws = torch.stack([layer(x[0]) for _ in range(400)])
    assert (draws.mean(0) - expected).abs().max() < 0.2
    assert draws.std(0).max() > 0
    fixed = sl.DropConnectLinear(4, 3, invariant=True, step_mode="m")
    x = x.float()
    first = fixed(x)
    first.sum().backward()
    fixed(x).sum().backward()  # a second backward through the same masks
    assert torch.equal(fixed(x), first)
    for p in (0.0, 1.0):
        assert sl.DropConnectLinear(4, 3, p=p)(x[0] * 0).isfinite().all()
    with pytest.raises(ValueError, match=r"p must be .*1\.5"):
        sl.DropConnectLinear(4, 3, p=1.5)


def test_dropout_mask_stays_until_reset():
    generator = torch.Generator().manual_seed(0)
    layer = sl.Dropout(0.5, generator=generator, step_mode="m")
    y = layer(torch.ones(4, 3, 1000))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert all(torch.equal(y[0], step) for step in y)
    assert torch.equal(layer(torch.ones(1, 3, 1000))[0], y[0])
    assert not torch.equal(y[0, 0], y[0, 1])  # each sample has its own
    assert abs((y[0] > 0).float().mean() - 0.5) < 0.05
    layer.reset()
    assert not torch.equal(layer(torch.ones(1, 3, 1000))[0], y[0])
    whole = sl.Dropout2d(0.5)(torch.ones(3, 8, 4, 4))
    assert torch.equal(whole, whole[..., :1, :1].expand_as(whole))
    layer.eval()
    assert torch.equal(layer(torch.ones(2, 3, 5)), torch.ones(2, 3, 5))
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"p must be .*{p}"):
            sl.Dropout(p)
    with pytest.raises(ValueError, match="Dropout2d"):
        sl.Dropout2d()(torch.ones(3, 4))


def normalised(x, dims, eps=1e-5):
    mean, var = x.mean(dims, keepdim=True), x.var(dims, unbiased=False, keepdim=True)
    return (x - mean) / (var + eps).sqrt()


def test_threshold_dependent_batch_norm():
    x = rand(4, 3, 5, 2, 2)
    layer = sl.ThresholdDependentBatchNorm2d(5, alpha=0.5, v_threshold=1.5, step_mode="m").double()
    torch.testing.assert_close(layer(x), 0.75 * normalised(x, (0, 1, 3, 4)))
    assert torch.equal(layer.weight, torch.ones(5, dtype=D))
    assert layer.running_mean.abs().sum() > 0
    plain = sl.ThresholdDependentBatchNorm1d(5, affine=False, eps=0.1, step_mode="m").double()
    torch.testing.assert_close(plain(x[..., 0, 0]), normalised(x[..., 0, 0], (0, 1), 0.1))
    with pytest.raises(ValueError, match="v_threshold"):
        sl.ThresholdDependentBatchNorm2d(5, v_threshold=0.0)


def test_temporal_effective_batch_norm():
    x = rand(4, 3, 5, 2, 2)
    layer = sl.TemporalEffectiveBatchNorm2d(5, 6, step_mode="m").double()
    with torch.no_grad():
        layer.scale.p.copy_(torch.arange(1.0, 7.0))
    p = torch.arange(1.0, 5.0, dtype=D).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(layer(x), p * normalised(x, (0, 1, 3, 4)))
    with pytest.raises(ValueError, match=r"step 8 is beyond T = 6.*reset_net"):
        layer(x)


def test_norms_over_time_name_a_wrong_number_of_channels():
    for layer in (sl.ThresholdDependentBatchNorm2d(4), sl.TemporalEffectiveBatchNorm2d(4, 3), sl.BNTT2d(4, 3)):
        name = type(layer).__name__
        with pytest.raises(ValueError, match=rf"{name}: x must have num_features = 4 .*\(2, 3, 5, 5\)"):
            layer(torch.ones(2, 3, 5, 5))
        with pytest.raises(ValueError, match=r"must have 4 dims"):
            layer(torch.ones(2, 4))


def test_bntt():
    x = rand(4, 6, 5, 2, 2)
    layer = sl.BNTT2d(5, 4, eps=1e-4, step_mode="m").double()
    torch.testing.assert_close(layer(x), normalised(x, (1, 3, 4), 1e-4))
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean((1, 3, 4)))
    with pytest.raises(ValueError, match="beyond T = 4"):
        layer(x)


@pytest.mark.parametrize("space", [(), (4,), (3, 2), (2, 2, 2)])
def test_layer_norm_channels_first(space):
    x = rand(3, 5, *space)
    layer = sl.LayerNorm(5, data_format="channels_first").double()
    torch.testing.assert_close(layer(x), normalised(x, (1,), 1e-5))
    with pytest.raises(ValueError, match="data_format"):
        sl.LayerNorm(5, data_format="other")


def test_voting_and_winner_take_all():
    x = rand(2, 3, 12)
    torch.testing.assert_close(sl.VotingLayer(4, step_mode="m")(x), x.view(2, 3, 3, 4).mean(-1))
    with pytest.raises(ValueError, match="multiple of voter_num = 5"):
        sl.VotingLayer(5)(x)
    layer = sl.WTALayer(2, generator=torch.Generator().manual_seed(0))
    s = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    kept = torch.stack([layer(s) for _ in range(60)])
    assert (kept[:, 0].sum(-1) == 2).all()
    assert torch.equal(kept[:, 1], s[1].expand(60, 4))  # no unit that was silent is woken
    assert (kept[:, 0, :3].mean(0) - 2 / 3).abs().max() < 0.2
    assert torch.equal(layer.eval()(s), torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="k = 5 needs as many units"):
        sl.WTALayer(5)(s)


def test_decoders(spikes):
    s = spikes(9, 2, 5, p=0.2)
    first = [next((t for t in range(9) if s[t, n, c]), 9) for n in range(2) for c in range(5)]
    assert sl.FirstSpikeDecoder(step_mode="m")(s).flatten().tolist() == first
    torch.testing.assert_close(sl.RateDecoder(step_mode="m")(s), s.mean(0))
    v = torch.randn(9, 2, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sl.MaxMembraneDecoder(step_mode="m")(v), v.amax(0))
    for cls in (sl.FirstSpikeDecoder, sl.RateDecoder, sl.MaxMembraneDecoder):
        single, halves = cls(), cls(step_mode="m")
        for step in v.abs() if cls is sl.MaxMembraneDecoder else s:
            last = single(step)
        data = v.abs() if cls is sl.MaxMembraneDecoder else s
        halves(data[:4])
        torch.testing.assert_close(halves(data[4:]), last)
        with pytest.raises(ValueError, match="at least one step"):
            cls(step_mode="m")(s[:0])


def test_encoders():
    x = rand(3, 4)
    seq = sl.RepeatEncoder(6, step_mode="m")(x)
    assert seq.shape == (6, 3, 4)
    draws = [sl.PoissonEncoder(generator=torch.Generator().manual_seed(3), step_mode="m") for _ in range(2)]
    many = torch.full((2000, 1, 4), 0.3)
    a, b = draws[0](many), draws[1](many)
    assert torch.equal(a, b)
    assert (a.mean(0) - 0.3).abs().max() < 0.05
    latency = sl.LatencyEncoder(6, step_mode="m")(seq)
    assert torch.equal(latency.sum(0), torch.ones(3, 4, dtype=D))
    assert torch.equal(latency.argmax(0), torch.round(5 * (1 - x)).long())
    log = sl.LatencyEncoder(6, function="log", step_mode="m")(seq).argmax(0)
    assert torch.equal(log, torch.round(5 - torch.log1p(math.expm1(5) * x)).long())
    phase = sl.WeightedPhaseEncoder(6, step_mode="m")(seq)
    weights = 2.0 ** -torch.arange(1, 7, dtype=D).view(-1, 1, 1)
    assert ((phase * weights).sum(0) - x).abs().max() <= 2.0**-6
    wave = torch.tensor([0.0, 0.05, 0.3, 0.3, 0.1]).view(5, 1, 1)
    assert sl.DeltaEncoder(0.2, step_mode="m")(wave).flatten().tolist() == [0, 0, 1, 0, -1]
    rebuilt = sl.DeltaEncoder(0.1, track=True, step_mode="m")(rand(50, 1, 1).float().cumsum(0) * 0.02)
    assert rebuilt.sum() > 0
    for bad in (lambda: sl.RepeatEncoder(0), lambda: sl.LatencyEncoder(0), lambda: sl.WeightedPhaseEncoder(25)):
        with pytest.raises(ValueError, match=r"must be"):
            bad()
    with pytest.raises(ValueError, match="threshold"):
        sl.DeltaEncoder(0.0)


def test_recurrence(decay):
    x = rand(5, 3, 4)
    layer = sl.ElementwiseRecurrent(nn.Tanh(), lambda x, y: x - 2 * y, step_mode="m")
    y, rows = torch.zeros(3, 4, dtype=D), []
    for t in range(5):
        y = torch.tanh(x[t] - 2 * y)
        rows.append(y)
    torch.testing.assert_close(layer(x), torch.stack(rows))
    linear = sl.LinearRecurrent(nn.Sequential(nn.Linear(4, 2), decay("s")), 4, 2, step_mode="m").double()
    y, v, rows = torch.zeros(3, 2, dtype=D), torch.zeros(3, 2, dtype=D), []
    for t in range(5):
        i = torch.cat((x[t], y), -1) @ linear.rc.weight.T + linear.rc.bias
        v = 0.5 * v + F.linear(i, linear.sub_module[0].weight, linear.sub_module[0].bias)
        y = v
        rows.append(y)
    torch.testing.assert_close(linear(x), torch.stack(rows))
    with pytest.raises(ValueError, match=r"keep the shape \(3, 4\).*got \(3, 2\)"):
        sl.ElementwiseRecurrent(nn.Linear(4, 2).double(), step_mode="m")(x)
    with pytest.raises(ValueError, match="in_features"):
        linear(x[..., :3])
    with pytest.raises(ValueError, match="out_features = 2"):
        sl.LinearRecurrent(nn.Linear(4, 3), 4, 2)(torch.ones(1, 4))


def test_self_attention_is_the_product_of_its_spikes():
    layer = sl.SpikingSelfAttention(6, nn.Identity, 3, scale=0.25).double().eval()
    x = rand(2, 5, 6)
    q, k, v = (F.linear(x, part.linear.weight) / math.sqrt(1 + 1e-5) for part in (layer.q, layer.k, layer.v))
    y = torch.empty(2, 5, 6, dtype=D)
    for h in range(3):
        part = slice(2 * h, 2 * h + 2)
        y[..., part] = 0.25 * (q[..., part] @ k[..., part].transpose(1, 2)) @ v[..., part]
    torch.testing.assert_close(layer(x), F.linear(y, layer.out.linear.weight) / math.sqrt(1 + 1e-5))
    with pytest.raises(ValueError, match="num_heads must divide dim = 6, got 4"):
        sl.SpikingSelfAttention(6, nn.Identity, 4)
    with pytest.raises(ValueError, match="SpikingSelfAttention"):
        layer(x[0])


def test_print_shape(capsys):
    x = rand(2, 3)
    assert sl.PrintShape("here")(x) is x
    assert capsys.readouterr().out == "here (2, 3)\n"
