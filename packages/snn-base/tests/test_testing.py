import pytest
import torch

from snn_base import MemoryModule
from snn_base.testing import (
    assert_gradients_match_float64,
    assert_state_is_kept_apart,
    assert_step_modes_agree,
    poisoned_empty,
)


class Wrong(MemoryModule):
    def __init__(self, fault):
        super().__init__("m")
        self.fault = fault
        self.register_memory("v", 0.0)

    def single_step_forward(self, x):
        if self.fault == "in place":
            self.v += x
            return self.v
        self.v = self.v + x
        return self.v

    def multi_step_forward(self, x_seq):
        if self.fault == "in place":
            return super().multi_step_forward(x_seq)
        y = self.v + x_seq.cumsum(0)
        if self.fault == "memory":
            return y
        self.v = y[-1].detach() if self.fault == "gradient" else y[-1]
        return y + 1e-3 if self.fault == "output" else y


def test_the_right_module_passes():
    assert_step_modes_agree(Wrong(None), torch.randn(5, 2))
    assert_state_is_kept_apart(Wrong(None), torch.randn(5, 2))


@pytest.mark.parametrize(
    ("fault", "message"),
    [("output", "multi-step: output"), ("memory", "multi-step: last memory"), ("gradient", "gradient 0")],
)
def test_a_fault_is_found_and_named(fault, message):
    with pytest.raises(AssertionError, match=message):
        assert_step_modes_agree(Wrong(fault), torch.randn(5, 2))


def test_a_memory_changed_in_place_is_found():
    net = Wrong("in place")
    net.step_mode = "s"
    with torch.no_grad(), pytest.raises(AssertionError, match=r"an output after reset"):
        assert_state_is_kept_apart(net, torch.ones(3))


def test_gradients_against_float64():
    x = torch.randn(4)
    assert_gradients_match_float64(lambda a: a[0].sin(), lambda a: a[0].sin(), [x])
    with pytest.raises(AssertionError, match="output"):
        assert_gradients_match_float64(lambda a: a[0].sin(), lambda a: a[0].sin() + 1, [x])
    with pytest.raises(AssertionError, match="gradient 0"):
        assert_gradients_match_float64(lambda a: a[0].detach() + a[0] * 0, lambda a: a[0], [x])


def test_poison_shows_what_was_not_written():
    with poisoned_empty():
        assert torch.empty(3).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
