import io

import pytest
import torch
from torch import nn

from snn_base import (
    MemoryModule,
    detach_net,
    load_memory_state,
    memory_state,
    named_memories,
    reset_net,
    set_backend,
    set_step_mode,
)


def test_modules_added_replaced_or_removed_after_a_reset_are_seen(leaky):
    net = nn.Sequential(leaky())
    reset_net(net)
    net.append(leaky())
    x = torch.randn(2, 4, 3)
    net(x)
    reset_net(net)
    assert [value for _, value in named_memories(net)] == [0.25, 0.25]
    net[0] = leaky()
    net(x)
    reset_net(net)
    assert [name for name, _ in named_memories(net)] == ["0.v", "1.v"]
    del net[1]
    assert [name for name, _ in named_memories(net)] == ["0.v"]


def test_detach_truncates_the_graph_of_the_past(leaky):
    net = nn.Sequential(leaky())
    x = torch.randn(2, 4, 3, requires_grad=True)
    first = net(x)
    detach_net(net)
    second = net(torch.randn(2, 4, 3))
    assert torch.autograd.grad(second.sum(), x, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(first.sum(), x)[0] is not None


def test_set_step_mode_reaches_all_but_driven_children(leaky):
    class Driver(MemoryModule):
        drives_children = True

        def __init__(self):
            super().__init__("s")
            self.child = leaky(step_mode="s")

    net = nn.Sequential(leaky(), Driver())
    set_step_mode(net, "m")
    assert net[0].step_mode == net[1].step_mode == "m"
    assert net[1].child.step_mode == "s"
    with pytest.raises(ValueError, match="got 'q'"):
        set_step_mode(net, "q")


def test_set_backend_touches_modules_that_have_one(leaky):
    net = nn.Sequential(leaky(), nn.Linear(3, 3))
    net[0].backend = "auto"
    set_backend(net, "torch")
    assert net[0].backend == "torch"
    assert not hasattr(net[1], "backend")


def test_memory_state_travels_through_torch_save(leaky):
    torch.manual_seed(0)
    net = nn.Sequential(leaky(), nn.Sequential(leaky()))
    x = torch.randn(2, 4, 3)
    net(x)
    detach_net(net)
    file = io.BytesIO()
    torch.save(memory_state(net), file)
    expected = net(x)
    file.seek(0)
    load_memory_state(net, torch.load(file))
    assert torch.equal(net(x), expected)


def test_a_state_that_does_not_fit_is_refused_whole(leaky):
    net = nn.Sequential(leaky(), leaky())
    before = memory_state(net)
    with pytest.raises(KeyError, match=r"unknown memories \['2.v'\], missing memories \['1.v'\]"):
        load_memory_state(net, {"0": {"v": torch.ones(4, 3)}, "2": {"v": 0.0}})
    with pytest.raises(TypeError, match=r"1.v must be a tensor, a float or None, got 'x'"):
        load_memory_state(net, {"0": {"v": torch.ones(4, 3)}, "1": {"v": "x"}})
    assert memory_state(net) == before


def test_reset_net_with_a_mask(leaky):
    net = nn.Sequential(leaky(), leaky())
    net(torch.randn(2, 2, 3))
    reset_net(net, torch.tensor([False, True]))
    for _, value in named_memories(net):
        assert torch.equal(value[1], torch.full((3,), 0.25))
        assert not torch.equal(value[0], torch.full((3,), 0.25))


def test_a_mask_or_backend_refused_by_one_module_changes_none(leaky):
    class Picky(MemoryModule):
        backend = property(lambda self: "torch", lambda self, value: self.refuse(value))

        def refuse(self, value):
            raise ValueError(f"no backend {value!r}")

    net = nn.Sequential(leaky(), leaky())
    net[0](torch.randn(2, 4, 3))
    net[1](torch.randn(2, 5, 3))
    before = memory_state(net)
    with pytest.raises(ValueError, match="mask of shape"):
        reset_net(net, torch.ones(4, dtype=torch.bool))
    assert all(net[i].v is before[str(i)]["v"] for i in range(2))
    with pytest.raises(TypeError, match="mask must be a boolean tensor, got list"):
        reset_net(net, [True])
    net[0].backend = "auto"
    net.append(Picky())
    with pytest.raises(ValueError, match="no backend 'q'"):
        set_backend(net, "q")
    assert net[0].backend == "auto"


@pytest.mark.parametrize("state", [3, {"0": None}, []])
def test_a_state_that_is_no_nested_dict_is_refused(leaky, state):
    with pytest.raises(TypeError, match="as memory_state returns it, got"):
        load_memory_state(nn.Sequential(leaky()), state)
