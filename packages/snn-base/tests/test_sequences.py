import pytest
import torch
from torch import nn

from snn_base import chunked_forward, multi_step_forward, seq_to_ann_forward


def test_fold_equals_the_loop_for_a_stateless_module():
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    x = torch.randn(4, 2, 2, 5, 5)
    torch.testing.assert_close(seq_to_ann_forward(x, module), multi_step_forward(x, module))
    assert seq_to_ann_forward(x.transpose(3, 4), nn.Identity()).shape == x.shape
    assert seq_to_ann_forward(torch.randn(0, 2, 3), nn.Linear(3, 5)).shape == (0, 2, 5)


def test_fold_refuses_memories_by_name(leaky):
    with pytest.raises(ValueError, match=r"1 \(Leaky\) has memories"):
        seq_to_ann_forward(torch.ones(2, 2, 3), nn.Sequential(nn.Linear(3, 3), leaky()))
    with pytest.raises(ValueError, match=r"must be \[T, N, ...\], got shape \(2,\)"):
        seq_to_ann_forward(torch.ones(2), nn.Identity())


def test_loop_needs_a_step():
    with pytest.raises(ValueError, match="T = 0"):
        multi_step_forward(torch.ones(0, 2), nn.Identity())


def test_chunks_give_the_outputs_of_one_pass_and_truncated_gradients(leaky):
    net = leaky()
    x = torch.randn(7, 2, 3, requires_grad=True)
    expected = net(x)
    net.reset()
    pieces = list(chunked_forward(net, x, 3))
    assert [len(p) for p in pieces] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(pieces), expected)
    gradient = torch.autograd.grad(pieces[1].sum(), x)[0]
    assert gradient[:3].abs().sum() == 0
    assert gradient[3:6].abs().min() > 0
    with pytest.raises(ValueError, match="chunk must be an integer"):
        chunked_forward(net, x, 0)
