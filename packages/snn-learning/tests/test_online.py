"""Online gradients against backpropagation through time, and their memory."""

import pytest
import torch
from torch import nn

from snn_base import MemoryModule, reset_net
from snn_learning import online


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        return g / (1 + (3.0 * u) ** 2)


class LIF(MemoryModule):
    """A leaky integrate-and-fire neuron with soft reset."""

    def __init__(self, decay=0.7, detach_reset=True):
        super().__init__()
        self.decay, self.detach_reset = decay, detach_reset
        self.register_memory("v", 0.0)

    def single_step_forward(self, x):
        v = self.decay * self.v + x
        s = _Spike.apply(v - 1.0)
        self.v = v - (s.detach() if self.detach_reset else s)
        return s


class Adaptive(MemoryModule):
    """A neuron with a second memory: its threshold adapts, and its reset is part of the gradient."""

    def __init__(self):
        super().__init__()
        self.register_memory("v", 0.0)
        self.register_memory("a", 0.0)

    def single_step_forward(self, x):
        v = 0.8 * self.v + 0.5 * x
        s = _Spike.apply(v - 1.0 - 0.6 * self.a)
        self.v, self.a = v * (1 - s), 0.9 * self.a + s
        return s


def bptt(net, x_seq, loss_fn):
    net.zero_grad()
    reset_net(net)
    loss = torch.stack([loss_fn(net(x), t) for t, x in enumerate(x_seq)]).mean()
    loss.backward()
    return {k: p.grad.clone() for k, p in net.named_parameters()}, loss.detach()


def online_gradients(net, x_seq, loss_fn, **options):
    net.zero_grad()
    result = online.online_backward(net, x_seq, loss_fn, **options)
    return {k: p.grad.clone() for k, p in net.named_parameters()}, result


def same(a, b):
    assert [*a] == [*b] or len(a) == len(b)
    for left, right in zip(a.values(), b.values(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-12, rtol=1e-9)


def differ(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a.values(), b.values(), strict=True)) > 1e-6


LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "linear-no-bias": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), (2, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2), (2, 5, 6)),
    "conv2d-circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 6)),
    "conv3d-same": (lambda: nn.Conv3d(1, 2, 3, padding="same"), (1, 3, 4, 3)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_ottt_one_layer_is_bptt(layer, spikes):
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    net = nn.Sequential(make(), LIF()).double()
    x_seq = spikes(12, 3, *shape, p=0.5)

    def loss_fn(y, t):
        return ((y - 0.3 * t / 12) ** 2).mean()

    exact, loss = bptt(net, x_seq, loss_fn)
    decay = online.membrane_decay(net[1])
    assert decay == pytest.approx(0.7)
    sltt, _ = online_gradients(net, x_seq, loss_fn)
    assert differ(exact, sltt)  # without traces the paths through time are missing
    ours, result = online_gradients(online.ottt(net, decay), x_seq, loss_fn)
    same(exact, ours)
    torch.testing.assert_close(result.loss, loss, check_dtype=False)


def test_ottt_input_gradient_and_depth(spikes):
    """In two layers OTTT is exact for the last, and its input gradients are those of each step."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), LIF(), nn.Flatten(), nn.Linear(15, 2), LIF()
    )
    net = net.double()
    x_seq = spikes(8, 2, 2, 5, p=0.6)

    def loss_fn(y, t):
        return (y - 0.5).square().sum()

    exact, _ = bptt(net, x_seq, loss_fn)
    plain, _ = online_gradients(net, x_seq, loss_fn)
    ours, _ = online_gradients(online.ottt(net, 0.7), x_seq, loss_fn)
    torch.testing.assert_close(ours["3.synapse.weight"], exact["3.weight"])
    assert differ(plain, ours)
    x = x_seq[0].clone().requires_grad_()
    reset_net(net)
    net(x).sum().backward()
    untraced = nn.Sequential(*(getattr(m, "synapse", m) for m in net))
    reset_net(untraced)
    y = x_seq[0].clone().requires_grad_()
    untraced(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_sltt_k_scales(spikes):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), LIF()).double()
    x_seq = spikes(6, 2, 4, p=0.6)

    def loss_fn(y, t):
        return (y - 0.5).square().sum()

    full, _ = online_gradients(net, x_seq, loss_fn)
    same(full, online_gradients(net, x_seq, loss_fn, backward_steps=6)[0])
    draws = [
        online_gradients(net, x_seq, loss_fn, backward_steps=2, generator=torch.Generator().manual_seed(i))[0]
        for i in range(200)
    ]
    mean = torch.stack([d["0.weight"] for d in draws]).mean(0)
    torch.testing.assert_close(mean, full["0.weight"], atol=0.1 * full["0.weight"].abs().max().item(), rtol=0.1)


@pytest.mark.parametrize("neuron", [LIF, lambda: LIF(detach_reset=False), Adaptive], ids=["lif", "reset", "adaptive"])
def test_eprop_without_recurrence_is_bptt(neuron, spikes):
    torch.manual_seed(0)
    fc = nn.Linear(5, 4).double()
    node = neuron().double()
    x_seq = spikes(15, 3, 5, p=0.5) * 2
    target = spikes(15, 3, 4, seed=3)

    def loss_fn(y, t):
        return ((y - target[t]) ** 2).sum()

    exact, _ = bptt(nn.Sequential(fc, node), x_seq, loss_fn)
    ours, _ = online_gradients(online.EProp(fc, node), x_seq, loss_fn)
    same(exact, ours)


def test_eprop_leaky_readout(spikes):
    torch.manual_seed(0)

    class Readout(MemoryModule):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2, bias=False)
            self.register_memory("y", lambda x: x.new_zeros(x.shape[0], 2))

        def single_step_forward(self, z):
            self.y = 0.8 * self.y + self.fc(z)
            return self.y

    fc, node, out = nn.Linear(5, 4).double(), LIF().double(), Readout().double()
    x_seq = spikes(10, 3, 5, p=0.5) * 2

    def loss_fn(y, t):
        return ((y - 0.1 * t) ** 2).sum()

    exact, _ = bptt(nn.Sequential(fc, node, out), x_seq, loss_fn)
    ours, _ = online_gradients(nn.Sequential(online.EProp(fc, node, kappa=0.8), out), x_seq, loss_fn)
    torch.testing.assert_close(ours["0.synapse.weight"], exact["0.weight"])
    torch.testing.assert_close(ours["0.synapse.bias"], exact["0.bias"])


def test_eprop_recurrent_runs_like_the_loop_and_learns(spikes):
    torch.manual_seed(0)
    fc, rec, node = nn.Linear(5, 6), nn.Linear(6, 6, bias=False), LIF()
    layer = online.EProp(fc, node, recurrent=rec, kappa=0.5)
    x_seq = spikes(20, 4, 5, p=0.5, dtype=torch.float32)
    reset_net(layer)
    got = torch.stack([layer(x) for x in x_seq])
    reset_net(layer)
    node.reset()
    z, want = torch.zeros(4, 6), []
    with torch.no_grad():
        for x in x_seq:
            z = node(fc(x) + rec(z))
            want.append(z)
    assert torch.equal(got.detach(), torch.stack(want))
    net = nn.Sequential(layer, online.FeedbackLinear(6, 2, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        result = online.online_backward(net, x_seq, lambda y, t: (y - torch.tensor([0.5, -1.0])).square().mean())
        optimizer.step()
        losses.append(result.loss.item())
    assert rec.weight.grad is not None
    assert rec.weight.grad.abs().sum() > 0
    assert losses[-1] < 0.5 * losses[0]


def peak_saved_bytes(run):
    """Return the most bytes that graphs held at one time for a later backward pass."""
    alive = {"now": 0, "peak": 0}

    class Held:
        def __init__(self, tensor):
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive["now"] += self.size
            alive["peak"] = max(alive["peak"], alive["now"])

        def __del__(self):
            alive["now"] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        run()
    return alive["peak"]


@pytest.mark.parametrize("kind", ["sltt", "ottt", "eprop"])
def test_memory_is_flat_in_time(kind, spikes):
    torch.manual_seed(0)

    def make():
        fc, node = nn.Linear(20, 10), LIF()
        if kind == "eprop":
            return nn.Sequential(online.EProp(fc, node), nn.Linear(10, 3))
        net = nn.Sequential(fc, node, nn.Linear(10, 3))
        return online.ottt(net, 0.7) if kind == "ottt" else net

    def peak(steps, through_time=False):
        net, x_seq = make(), spikes(steps, 4, 20, dtype=torch.float32)
        if through_time:
            return peak_saved_bytes(lambda: bptt(net, x_seq, lambda y, t: y.square().mean()))
        return peak_saved_bytes(lambda: online.online_backward(net, x_seq, lambda y, t: y.square().mean()))

    assert peak(10) == peak(1000) > 0
    if kind == "sltt":
        assert peak(100, through_time=True) > 5 * peak(10, through_time=True)


def test_refusals():
    lif, fc = LIF(), nn.Linear(3, 2)
    with pytest.raises(ValueError, match="at least one step"):
        online.online_backward(fc, torch.zeros(0, 1, 3), lambda y, t: y.sum())
    with pytest.raises(ValueError, match="backward_steps"):
        online.online_backward(fc, torch.zeros(2, 1, 3), lambda y, t: y.sum(), backward_steps=3)
    with pytest.raises(ValueError, match="scalar"):
        online.online_backward(fc, torch.zeros(2, 1, 3), lambda y, t: y)
    with pytest.raises(ValueError, match="decay"):
        online.OTTTSynapse(fc, 1.5)
    with pytest.raises(ValueError, match="holds no"):
        online.ottt(nn.Sequential(lif), 0.5)
    with pytest.raises(ValueError, match="no memory 'u'"):
        online.membrane_decay(lif, memory="u")
    with pytest.raises(TypeError, match="neuron"):
        online.EProp(fc, nn.ReLU())
    with pytest.raises(TypeError, match="synapse"):
        online.EProp(nn.Conv1d(1, 1, 1), lif)
    with pytest.raises(ValueError, match="recurrent"):
        online.EProp(fc, lif, recurrent=nn.Linear(3, 2))
    with pytest.raises(ValueError, match="kappa"):
        online.EProp(fc, lif, kappa=2.0)
