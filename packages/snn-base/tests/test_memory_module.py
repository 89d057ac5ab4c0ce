import copy
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_base import MemoryDeviceError, MemoryDtypeError, MemoryModule, MemoryShapeError, reset_net
from snn_base.testing import assert_state_is_kept_apart, assert_step_modes_agree


class Counter(MemoryModule):
    def __init__(self, step_mode="m"):
        super().__init__(step_mode)
        self.register_memory("n", 0)

    def single_step_forward(self, x):
        self.n = self.n + x
        return self.n


@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 4),
    shape=st.lists(st.integers(1, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_sequence_is_the_step_repeated(steps, batch, shape, dtype):
    x = torch.randn(steps, batch, *shape, dtype=dtype, generator=torch.Generator().manual_seed(steps))
    assert_step_modes_agree(Counter(), x)
    assert torch.equal(Counter()(x)[-1], x.cumsum(0)[-1]) or torch.allclose(Counter()(x)[-1], x.sum(0))


def test_every_kind_of_memory_agrees_in_all_modes(all_kinds, leaky):
    assert_step_modes_agree(all_kinds(), torch.randn(6, 2, 3))
    assert_step_modes_agree(leaky(), torch.randn(7, 2, 3))
    assert_step_modes_agree(nn.Sequential(leaky(), all_kinds()), torch.randn(5, 2, 3))


def test_no_steps_give_an_empty_sequence_in_the_graph(leaky):
    net = leaky()
    net(torch.randn(2, 4, 3))
    before = net.v
    x = torch.randn(0, 4, 3, requires_grad=True)
    y = net(x)
    assert y.shape == (0, 4, 3)
    assert net.v is before
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape


def test_nothing_returned_ever_changes(leaky, all_kinds):
    for net in (leaky(), leaky(step_mode="s"), all_kinds()):
        shape = (2, 3) if net.step_mode == "s" else (4, 2, 3)
        assert_state_is_kept_apart(net, torch.randn(shape))


def test_memories_start_at_their_value_and_return_to_it():
    net = Counter()
    assert net.n == 0.0
    assert net.memory_names == ("n",)
    net(torch.ones(2, 3))
    assert torch.equal(net.memories["n"], torch.full((3,), 2.0))
    net.reset()
    assert net.n == 0.0


def test_a_tensor_memory_is_expanded_and_the_callers_tensor_is_left_alone():
    value = torch.tensor([1.0, 2.0])
    net = MemoryModule("s")
    net.register_memory("w", value)
    value.zero_()
    net.prepare_memories(torch.zeros(3, 2))
    assert net.w.tolist() == [[1.0, 2.0]] * 3
    net.reset()
    with pytest.raises(MemoryShapeError, match=r"MemoryModule.w: its initial value of shape \(2,\)"):
        net.prepare_memories(torch.zeros(3, 5))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("a b", 0.0, ValueError, "must be an identifier, got 'a b'"),
        ("training", 0.0, ValueError, "'training' is already an attribute"),
        ("v", "zero", TypeError, "'v' must be a float, a tensor, a callable or None, got str"),
        ("v", True, TypeError, "got bool"),
    ],
)
def test_register_memory_refuses(name, value, error, message):
    with pytest.raises(error, match=message):
        MemoryModule().register_memory(name, value)


def test_changed_batch_names_module_memory_shapes_and_cure(leaky):
    net = leaky()
    net(torch.randn(2, 4, 3))
    with pytest.raises(MemoryShapeError, match=r"Leaky.v has shape \(4, 3\).*needs \(5, 3\).*reset_net"):
        net(torch.randn(2, 5, 3))
    reset_net(net)
    assert net(torch.randn(2, 5, 3)).shape == (2, 5, 3)


def test_changed_shape_of_a_lazily_shaped_memory(all_kinds):
    net = all_kinds()
    net(torch.randn(2, 4, 3))
    with pytest.raises(MemoryShapeError, match=r"AllKinds\.a"):
        net(torch.randn(2, 5, 3))

    class Lazy(MemoryModule):
        def __init__(self):
            super().__init__("s")
            self.register_memory("c", lambda x: x.new_zeros(x.shape[0], 1))

        def single_step_forward(self, x):
            return x + self.c

    lazy = Lazy()
    lazy(torch.randn(4, 3))
    lazy(torch.randn(4, 7))  # the memory's shape does not depend on this dim
    with pytest.raises(MemoryShapeError, match=r"Lazy.c has shape \(4, 1\)"):
        lazy(torch.randn(5, 3))


def test_changed_dtype_and_device(leaky):
    net = leaky()
    net(torch.randn(2, 4, 3))
    with pytest.raises(MemoryDtypeError, match=r"Leaky.v has dtype torch.float32 .* torch.float64"):
        net(torch.randn(2, 4, 3, dtype=torch.float64))
    with pytest.raises(MemoryDeviceError, match=r"Leaky.v is on cpu but the input is on meta.*\.to\('meta'\)"):
        net(torch.empty(2, 4, 3, device="meta"))


def test_memories_follow_to_and_half(leaky):
    net = leaky()
    net(torch.randn(2, 4, 3))
    net.double()
    assert net.v.dtype == torch.float64
    assert net(torch.randn(2, 4, 3, dtype=torch.float64)).dtype == torch.float64
    net.to("meta")
    assert net.v.device.type == "meta"
    kinds = MemoryModule()
    kinds.register_memory("b", torch.ones(3))
    kinds.half()
    kinds.prepare_memories(torch.zeros(2, 3, dtype=torch.float16))
    assert kinds.b.dtype == torch.float16


def test_deepcopy_and_pickle_after_a_forward_with_gradients(leaky):
    net = leaky()
    y = net(torch.randn(2, 4, 3))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(nn.ParameterList(net.parameters()))) and copy.copy(net)):
        assert torch.equal(twin.v, net.v)
    twin = copy.deepcopy(net)
    assert not twin.v.requires_grad
    assert net.v.requires_grad
    y.sum().backward()
    x = torch.randn(2, 4, 3)
    assert torch.equal(net(x), twin(x))


def test_memories_are_neither_parameters_nor_buffers(leaky):
    net = leaky()
    net(torch.randn(2, 4, 3))
    assert [n for n, _ in net.named_parameters()] == ["linear.weight", "linear.bias"]
    assert list(net.named_buffers()) == []
    assert "v" not in net.state_dict()


def test_a_persistent_memory_is_stored_and_loaded(leaky):
    net = leaky(persistent=True)
    fresh = leaky(persistent=True)
    assert "v" not in net.state_dict()
    fresh.load_state_dict(net.state_dict())  # nothing to store yet, nothing missing
    net(torch.randn(2, 4, 3))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    x = torch.randn(2, 4, 3)
    assert torch.equal(net(x), fresh(x))
    reset_net(net)
    fresh.load_state_dict(net.state_dict())
    assert fresh.v == 0.25
    plain = leaky()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        plain.load_state_dict({**plain.state_dict(), "v": torch.zeros(4, 3)})


def test_reset_of_chosen_samples(all_kinds):
    net = all_kinds()
    net(torch.ones(3, 4, 3))
    kept = net.memories
    net.reset(torch.tensor([True, False, False, True]))
    assert torch.equal(net.a[1:3], kept["a"][1:3])
    assert torch.equal(net.a[0], torch.full((3,), 0.5))
    assert torch.equal(net.b[3], torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(net.c[:, 0], torch.stack([torch.ones(()), kept["c"][1, 0], kept["c"][2, 0], torch.ones(())]))
    assert torch.equal(net.d[0], torch.zeros(3))


def test_masks_are_checked(leaky):
    net = leaky()
    net(torch.ones(3, 4, 3))
    with pytest.raises(TypeError, match=r"mask must be a boolean tensor, got torch.float32"):
        net.reset(torch.ones(4))
    with pytest.raises(ValueError, match=r"mask of shape \(5,\) does not fit memory 'v' of shape \(4, 3\)"):
        net.reset(torch.ones(5, dtype=torch.bool))


def test_step_mode_is_validated_at_assignment(leaky):
    net = leaky()
    with pytest.raises(ValueError, match=r"Leaky.step_mode must be 's' .* got 'x'"):
        net.step_mode = "x"
    with pytest.raises(ValueError, match="got 'multi'"):
        leaky(step_mode="multi")
    with pytest.raises(ValueError, match="0-dim"):
        Counter()(torch.tensor(1.0))
    with pytest.raises(NotImplementedError, match="MemoryModule must define single_step_forward"):
        MemoryModule()(torch.ones(2))


def test_integer_inputs_get_floating_memories():
    net = Counter()
    net(torch.ones(2, 3, dtype=torch.int64))
    assert net.n.dtype == torch.float32


def test_the_initial_value_of_a_memory_can_be_changed(leaky):
    net = leaky()
    net.set_initial_memory("v", 2)
    assert net.v == 2.0
    net.set_initial_memory("v", torch.tensor([1.0, 2.0, 3.0]))
    net.prepare_memories(torch.zeros(2, 4, 3))
    assert net.v.tolist() == [[1.0, 2.0, 3.0]] * 4
    with pytest.raises(KeyError, match=r"Leaky has no memory 'u'; it has \['v'\]"):
        net.set_initial_memory("u", 0.0)


def test_an_empty_sequence_leaves_a_fresh_net_fresh(all_kinds):
    net = all_kinds()
    net(torch.randn(0, 4, 3))
    assert net.a == 0.5
    assert net.c is None
    assert net(torch.randn(2, 5, 3)).shape == (2, 5, 3)


def test_registration_and_lazy_memories_explain_their_errors():
    class Early(MemoryModule):
        def __init__(self):
            self.register_memory("v", 0.0)

    with pytest.raises(RuntimeError, match=r"call super\(\).__init__\(\) before registering 'v'"):
        Early()
    for name in ("class", 3):
        with pytest.raises(ValueError, match="must be an identifier"):
            MemoryModule().register_memory(name, 0.0)
    net = MemoryModule()
    net.register_memory("q", lambda x: 3.0)
    with pytest.raises(TypeError, match=r"MemoryModule.q: the callable .* must return a tensor, got float"):
        net.prepare_memories(torch.zeros(2))
    with pytest.raises(TypeError, match=r"set_initial_memory: value of 'q' must be .* got str"):
        net.set_initial_memory("q", "x")
    assert "q" in dir(net)
