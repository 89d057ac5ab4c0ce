"""Random layer stacks: the module in chip arithmetic, the simulated file and the re-imported file are one.

``SNN_LAVA_NETS`` sets the number of networks drawn, 200 by default.
"""

import os
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snn_base import reset_net, set_backend, set_step_mode
from snn_lava_bridge import (
    CubaLIFNode,
    FlattenBlock,
    StepDelay,
    conv_block,
    dense_block,
    export_netx,
    import_netx,
    lint,
    pool_block,
    recurrent_block,
    simulate,
    write_netx,
)
from snn_lava_bridge.export import lower

# Tracing a step takes longer than running these nets; equal steps have equal keys and may share the result.
PROGRAMS = {}
NETS = int(os.environ.get("SNN_LAVA_NETS", "200"))
SCALES = st.sampled_from([1, 3, 16, 50, 64, 100, 127, 128, 1000])
THRESHOLDS = st.sampled_from([1.0, 1.27, 3.0, 17.3, 120.0])
DECAYS = st.one_of(st.sampled_from([0.0, 1.0, 1 / 4096, 4095 / 4096]), st.floats(0, 1, width=32), st.none())


class Draw:
    """Layers drawn one after another, each fitting the shape before it."""

    def __init__(self, draw):
        self.draw = draw
        self.generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        self.shape = draw(st.sampled_from([(1,), (5,), (2, 6, 5), (1, 4, 7)]))

    def decay(self, channels):
        value = self.draw(DECAYS)
        return torch.rand(channels, generator=self.generator) if value is None else value

    def neuron(self, channels):
        bias = torch.randn(channels, generator=self.generator) if self.draw(st.booleans()) else None
        scale, threshold = self.draw(SCALES), self.draw(THRESHOLDS)
        return CubaLIFNode(
            self.decay(channels), self.decay(channels), threshold, scale=scale, bias=bias, arithmetic="chip"
        )

    def pair(self, low, high):
        return self.draw(st.integers(low, high)), self.draw(st.integers(low, high))

    def image_layer(self):
        channels, *size = self.shape
        kernel = tuple(min(k, n) for k, n in zip(self.pair(1, 3), size, strict=True))
        stride, padding = self.pair(1, 2), self.pair(0, 1)
        if self.draw(st.booleans()):
            weight = self.draw(st.sampled_from([1.0, 1 / (kernel[0] * kernel[1])]))
            block = pool_block(kernel, self.neuron(channels), stride=stride, padding=padding, weight=weight)
        else:
            groups = self.draw(st.sampled_from([1, channels]))
            dilation = (2, 1) if kernel[0] * 2 - 1 <= size[0] and self.draw(st.booleans()) else (1, 1)
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            channels = channels * self.draw(st.integers(1, 2))
            block = conv_block(self.shape[0], channels, kernel, self.neuron(channels), **options)
        self.shape = tuple(block.synapse(torch.zeros(1, *self.shape), block.synapse.weight.detach()).shape[1:])
        return block

    def dense_layer(self):
        count, out = self.shape[0], self.draw(st.integers(1, 6))
        self.shape = (out,)
        if self.draw(st.integers(0, 3)) == 0:
            return recurrent_block(count, out, self.neuron(out))
        longest = self.draw(st.sampled_from([None, 3, 62]))
        delay = None if longest is None else torch.rand(out, generator=self.generator) * longest
        return dense_block(count, out, self.neuron(out), delay=delay)

    def layers(self):
        for _ in range(self.draw(st.integers(1, 4))):
            if len(self.shape) == 3 and self.draw(st.booleans()):
                yield self.image_layer()
                continue
            if len(self.shape) == 3:
                yield FlattenBlock()
                self.shape = (self.shape[0] * self.shape[1] * self.shape[2],)
            yield self.dense_layer()


@st.composite
def nets(draw):
    """A network of 1 to 4 blocks in chip arithmetic and input spikes ``[T, N, ...]``, sometimes many per step."""
    build = Draw(draw)
    inputs = build.shape
    net = nn.Sequential(*build.layers())
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=build.generator) * draw(st.sampled_from([0.3, 1.5, 30.0])))
    loudest = draw(st.sampled_from([1, 1, 300]))
    x = torch.randint(-loudest, loudest + 1, (draw(st.integers(1, 20)), 2, *inputs), generator=build.generator)
    return net, x.clamp(min=0)


@given(nets(), st.sampled_from(["m", "m", "m", "s"]), st.sampled_from([1, 50, 64, 96]))
@settings(max_examples=NETS)
def test_module_file_and_reimport_agree(drawn, step_mode, scale):
    net, x = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.net")
        network = lower(net, tuple(x.shape[2:]))
        if any(f.level == "error" for f in lint(network)):
            write_netx(network, path)  # the loader may fail on it, the arithmetic stands
        else:
            export_netx(net, path, tuple(x.shape[2:]))
        expected = simulate(path, x)
        again = import_netx(path, scale=scale)
    for module in (net, again):
        assert torch.equal(run(module, x.float(), step_mode), expected.float())


def run(net, x, step_mode):
    set_backend(net, "torch")
    set_step_mode(net, step_mode)
    reset_net(net)
    for node in net.modules():
        if isinstance(node, CubaLIFNode):
            node._structures = PROGRAMS
    with torch.no_grad():
        return net(x) if step_mode == "m" else torch.stack([net(step) for step in x])


def test_thousands_of_small_layers():
    """Many layers at once: every channel of a depth-wise convolution is a neuron with decays of its own."""
    count = 0
    for scale in (7, 64, 90):
        for threshold in (0.3, 1.0, 2.2):
            channels = 300
            node = CubaLIFNode(
                torch.rand(channels), torch.rand(channels), threshold, scale=scale, bias=torch.randn(channels) * 0.1,
                arithmetic="chip", step_mode="m", backend="torch",
            )  # fmt: skip
            net = nn.Sequential(conv_block(channels, channels, 1, node, groups=channels, step_mode="m"))
            nn.init.normal_(net[0].synapse.weight, std=1.5)
            x = torch.randint(0, 2, (40, 1, channels, 1, 1)).float()
            assert torch.equal(net(x), simulate(net, x))
            count += channels
    assert count == 2700


def test_delays_are_learned_and_exported(tmp_path):
    delay = nn.Parameter(torch.tensor([0.2, 1.7, 3.0, 5.9]))
    net = nn.Sequential(dense_block(3, 4, CubaLIFNode(0.5, 0.1, 0.1, step_mode="m"), delay=delay, step_mode="m"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    x = (torch.rand(30, 2, 3) < 0.5).float()
    (net(x) * torch.linspace(0, 1, 30).view(-1, 1, 1)).sum().backward()
    assert bool(delay.grad.any())
    optimizer.step()
    export_netx(net, tmp_path / "d.net")
    reset_net(net)
    assert torch.equal(net(x), simulate(tmp_path / "d.net", x))


def test_delay_gradient_is_slayers_difference():
    x = torch.randn(7, 2, 3)
    delay = nn.Parameter(torch.tensor([0.0, 1.5, 2.0]))
    y = StepDelay(0, delay, max_delay=4, step_mode="m")(x)
    g = torch.randn_like(y)
    y.backward(g)
    before = torch.cat([torch.zeros(1, 2, 3), y.detach()[:-1]])
    torch.testing.assert_close(delay.grad, (g * (before - y.detach())).sum((0, 1)))
    for c, d in enumerate((0, 1, 2)):
        assert torch.equal(y[d:, :, c], x[: 7 - d, :, c])
        assert not bool(y[:d, :, c].any())
