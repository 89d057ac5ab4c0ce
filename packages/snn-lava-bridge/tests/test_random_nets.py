"""Random layer stacks: the module in chip arithmetic, the simulated file and the re-imported file are one."""

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
    verify,
)

SCALES = [3, 16, 50, 64, 100, 128]


@st.composite
def nets(draw):
    """A network of 1 to 4 blocks in chip arithmetic and the shape of its input."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.sampled_from([(5,), (2, 6, 5), (1, 4, 7)]))
    inputs = shape
    modules = []

    def neuron(channels, bias):
        scale = draw(st.sampled_from(SCALES))
        decays = [
            torch.rand(channels, generator=generator)
            if draw(st.booleans())
            else draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
            for _ in range(2)
        ]
        return CubaLIFNode(
            *decays,
            draw(st.sampled_from([0.5, 1.0, 1.27, 3.0])),
            scale=scale,
            bias=torch.randn(channels, generator=generator) * 0.2 if bias else None,
            arithmetic="chip",
            backend="torch",
        )

    for _ in range(draw(st.integers(1, 4))):
        bias = draw(st.booleans())
        if len(shape) == 3 and draw(st.booleans()):
            k = draw(st.integers(1, 2))
            if draw(st.booleans()):
                modules.append(pool_block(k, neuron(shape[0], bias), stride=draw(st.sampled_from([None, 1]))))
            else:
                out, groups = 4, draw(st.sampled_from([1, shape[0]]))
                options = {"stride": draw(st.integers(1, 2)), "padding": draw(st.integers(0, 1)), "groups": groups}
                modules.append(conv_block(shape[0], out, (k, 2), neuron(out, bias), **options))
            size = modules[-1](torch.zeros(1, *shape)).shape[1:]
            reset_net(modules[-1])
            if min(size) < 1:
                modules.pop()
            else:
                shape = tuple(size)
            continue
        if len(shape) == 3:
            modules.append(FlattenBlock())
            shape = (shape[0] * shape[1] * shape[2],)
        out = draw(st.integers(1, 6))
        if draw(st.integers(0, 3)) == 0:
            modules.append(recurrent_block(shape[0], out, neuron(out, bias)))
        else:
            delay = torch.rand(out, generator=generator) * 6 if draw(st.booleans()) else None
            modules.append(dense_block(shape[0], out, neuron(out, bias), delay=delay))
        shape = (out,)
    net = nn.Sequential(*modules)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * draw(st.sampled_from([0.3, 1.5])))
    return net, inputs, generator


@given(nets())
@settings(max_examples=25)
def test_module_file_and_reimport_agree(drawn):
    net, inputs, generator = drawn
    if any(f.level == "error" for f in lint(net, input_shape=inputs)):
        return
    x = (torch.rand(12, 2, *inputs, generator=generator) < 0.4).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.net")
        export_netx(net, path, inputs)
        expected = simulate(path, x)
        set_step_mode(net, "m")
        assert torch.equal(net(x.float()), expected.float())
        for scale in (64, 50):
            again = import_netx(path, scale=scale)
            set_backend(again, "torch")
            assert torch.equal(again(x.float()), expected.float())
        assert verify(net, path, x).ok
        reset_net(net)
        set_step_mode(net, "s")
        assert torch.equal(torch.stack([net(step) for step in x.float()]), expected.float())


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
