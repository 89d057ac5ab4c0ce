import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from snn_base import MemoryStateError, checkpoint_sequence, functional_call, memory_state, named_memories, sequence


def test_functional_call_leaves_the_net_alone(leaky):
    net = nn.Sequential(leaky())
    x = torch.randn(4, 2, 3)
    net(x[:1])
    before = net[0].v
    y, state = functional_call(net, None, x)
    assert net[0].v is before
    net[0].reset()
    assert torch.equal(net(x), y)
    assert torch.equal(net[0].v, state["0"]["v"])


def test_functional_call_restores_after_an_error(leaky):
    net = leaky()
    net(torch.randn(1, 2, 3))
    before = net.v
    with pytest.raises(KeyError):
        functional_call(net, {"nowhere": {}, "": {}}, torch.randn(1, 2, 3))
    with pytest.raises(RuntimeError):
        functional_call(net, None, torch.randn(1, 2, 7))
    assert net.v is before


def test_functional_call_composes_with_torch_func(leaky):
    net = leaky()
    x = torch.randn(5, 4, 2, 3)  # five independent sequences

    def run(x):
        return functional_call(net, None, x)[0]

    assert torch.allclose(torch.func.vmap(run)(x), torch.stack([run(one) for one in x]), atol=1e-6)

    def from_state(v, x):
        y, state = functional_call(net, {"": {"v": v}}, x)
        return y.sum() + state[""]["v"].sum()

    v = torch.randn(2, 3, dtype=torch.float64)
    net.double()
    gradient = torch.func.grad(from_state)(v, x[0].double())
    eps = 1e-6
    bump = torch.zeros_like(v)
    bump[1, 2] = eps
    slope = (from_state(v + bump, x[0].double()) - from_state(v - bump, x[0].double())) / (2 * eps)
    assert gradient[1, 2].item() == pytest.approx(slope.item(), rel=1e-6)
    _, tangent = torch.func.jvp(lambda v: from_state(v, x[0].double()), (v,), (bump / eps,))
    assert tangent.item() == pytest.approx(slope.item(), rel=1e-6)


def test_sequence_is_fresh_inside_and_restored_after(leaky):
    net = leaky()
    x = torch.randn(3, 2, 3)
    y = net(x)
    state = memory_state(net)
    with sequence(net) as inner:
        assert inner is net
        assert torch.equal(net(x), y)
        net(torch.randn(1, 2, 3))
    assert memory_state(net)[""]["v"] is state[""]["v"]
    with pytest.raises(RuntimeError), sequence(net):
        net(torch.randn(1, 2, 9))
    assert net.v is state[""]["v"]


def test_plain_checkpointing_of_a_stateful_module_raises(leaky):
    net = leaky()
    x = torch.randn(3, 2, 3, requires_grad=True)
    for reentrant in (False, True):
        y = checkpoint(net, x, use_reentrant=reentrant)
        with pytest.raises(MemoryStateError, match=r"Leaky runs again inside a backward pass.*checkpoint_sequence"):
            y.sum().backward()
        net.reset()


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_checkpoint_sequence_equals_the_plain_pass(leaky, all_kinds, chunk):
    net = nn.Sequential(leaky(), nn.Dropout(0.5), all_kinds(), leaky())
    x = torch.randn(7, 2, 3, requires_grad=True)
    wanted = [x, *net.parameters()]
    net(x[:1])  # a state to continue from
    start = memory_state(net)
    torch.manual_seed(1)
    pieces, state = [], start
    for piece in x.split(chunk):
        y, state = functional_call(net, state, piece)
        pieces.append(y)
    expected = torch.autograd.grad(torch.cat(pieces).square().sum(), wanted, retain_graph=True)
    torch.manual_seed(1)
    y = checkpoint_sequence(net, x, chunk)
    assert torch.equal(y, torch.cat(pieces))
    for a, b in zip(torch.autograd.grad(y.square().sum(), wanted), expected, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in named_memories(net):
        prefix, memory = name.rsplit(".", 1)
        assert torch.equal(value, state[prefix][memory])


def test_checkpoint_sequence_keeps_the_chunk_not_the_sequence(leaky):
    def kept(run, steps):
        sizes = []
        net = leaky()
        x = torch.randn(steps, 2, 3, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            run(net, x)
        return sum(sizes)

    plain = [kept(lambda net, x: net(x), steps) for steps in (16, 64)]
    chunked = [kept(lambda net, x: checkpoint_sequence(net, x, 16), steps) for steps in (16, 64)]
    assert plain[1] > 3 * plain[0]
    assert chunked[1] < plain[1] / 3


def test_bad_chunks_are_refused(leaky):
    for chunk in (0, 1.5):
        with pytest.raises(ValueError, match=f"chunk must be an integer of at least 1 step, got {chunk}"):
            checkpoint_sequence(leaky(), torch.ones(2, 2, 3), chunk)
    with pytest.raises(ValueError, match="no step"):
        checkpoint_sequence(leaky(), torch.ones(0, 2, 3), 2)
