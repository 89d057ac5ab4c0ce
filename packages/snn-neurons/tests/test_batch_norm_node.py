"""A fused input scale and shift, and the batch norm made of it, against the separate layers."""

import copy

import pytest
import torch
from torch import nn

from snn_neurons import PSN, BatchNormNode, IFNode, LIFNode, RecurrentLIFNode
from snn_neurons.native_build import no_compiler

BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(bool(no_compiler()), reason="no C compiler"))]


def gradients(y, v, inputs):
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y, v, *torch.autograd.grad((y * weight).sum() + (v * v).sum(), inputs)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("given", [("scale", "shift"), ("scale",), ("shift",)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_and_shift_of_the_input(backend, given, mode):
    torch.manual_seed(0)
    x = torch.randn(7, 3, 4, 2, 5, dtype=torch.float64)[0 if mode == "s" else slice(None)].requires_grad_()
    values = {n: (torch.rand(4, 1, 1, dtype=torch.float64) + 0.5).requires_grad_() for n in given}
    node = LIFNode(step_mode=mode, backend=backend, learnable="tau").double()
    plain = copy.deepcopy(node)
    inputs = [x, *values.values(), node.tau]
    y = node(x, **values)
    found = gradients(y, node.v, inputs)
    expected_y = plain(x * values.get("scale", 1.0) + values.get("shift", 0.0))
    expected = gradients(expected_y, plain.v, [*inputs[:-1], plain.tau])
    assert 0 < y.mean() < 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_nodes_that_cannot_be_fused_take_a_scale_too():
    torch.manual_seed(0)
    x, scale = torch.randn(5, 2, 4), torch.rand(4) + 1
    node = RecurrentLIFNode(4, step_mode="m", backend="torch")
    y = node(x, scale)
    node.reset()
    assert torch.equal(y, node(x * scale))


def test_a_second_derivative_sees_the_scale():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    scale = (torch.rand(3, dtype=torch.float64) + 0.5).requires_grad_()

    def second(call):
        node.reset()
        (g,) = torch.autograd.grad((call() * x.detach().cos()).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), [x, scale])

    node = LIFNode(step_mode="m")
    for a, b in zip(second(lambda: node(x, scale, 0 * scale)), second(lambda: node(x * scale)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_training_equals_batch_norm_and_neuron(backend, dtype):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4).to(dtype)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-0.5, 1)
    fused = BatchNormNode(4, LIFNode(step_mode="m", backend=backend, learnable="tau")).to(dtype)
    fused.load_state_dict({**norm.state_dict(), "node.tau": torch.tensor(2.0)})
    node = LIFNode(step_mode="m", backend=backend, learnable="tau").to(dtype)
    x = torch.randn(6, 3, 4, 5, 2, dtype=dtype) * 2 + 1
    for _ in range(2):
        x = x.detach().requires_grad_()
        node.reset()
        fused.node.reset()
        y, expected = fused(x), node(norm(x.flatten(0, 1)).view_as(x))
        found = gradients(y, fused.node.v, [x, fused.weight, fused.bias, fused.node.tau])
        wanted = gradients(expected, node.v, [x, norm.weight, norm.bias, node.tau])
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-5)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(fused.state_dict()[name], value)
        x = x * 1.5
    norm.eval()
    fused.eval()
    node.reset()
    fused.node.reset()
    torch.testing.assert_close(fused(x), node(norm(x.flatten(0, 1)).view_as(x)))


def test_average_of_all_batches_and_no_running_statistics():
    norm, fused = nn.BatchNorm1d(3, momentum=None), BatchNormNode(3, IFNode(), momentum=None)
    bare = nn.BatchNorm1d(3, affine=False, track_running_stats=False).eval()
    bare_fused = BatchNormNode(3, IFNode(), track_running_stats=False, affine=False).eval()
    for seed in range(3):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) + seed
        norm(x)
        fused(x)
        bare_fused.node.reset()
        assert torch.equal(bare_fused(x), (bare(x) >= 1).to(x.dtype))
    torch.testing.assert_close(fused.running_var, norm.running_var)
    torch.testing.assert_close(fused.running_mean, norm.running_mean)


def test_nothing_but_the_input_is_saved():
    fused = BatchNormNode(8, LIFNode(step_mode="m"))
    x = torch.randn(16, 4, 8, 6, 6, requires_grad=True)
    sizes = {}

    def pack(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        fused(x)
    beyond = sum(n for p, n in sizes.items() if p != x.data_ptr())
    assert beyond < 0.5 * x.numel()


def test_one_compiled_graph():
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = BatchNormNode(3, LIFNode(step_mode="m"))
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    for T, N in [(4, 5), (9, 3)]:
        x = torch.randn(T, N, 3, 2, requires_grad=True)
        net.node.reset()
        expected = torch.autograd.grad(net(x).sum(), x)
        net.node.reset()
        torch.testing.assert_close(torch.autograd.grad(compiled(x).sum(), x), expected)


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match="node must be a neuron with a step"):
        BatchNormNode(3, PSN(4))
    with pytest.raises(ValueError, match="num_features must be at least 1"):
        BatchNormNode(0, IFNode())
    with pytest.raises(ValueError, match="3 channels in dim 1"):
        BatchNormNode(3, IFNode())(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="more than one value"):
        BatchNormNode(3, IFNode())(torch.zeros(1, 3))
