import pytest
import torch
from torch import nn

from snn_base import Recorder, checkpoint_sequence, chunked_forward, multi_step_forward, seq_to_ann_forward


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


def test_memories_are_detached_where_the_loop_is_left_early(leaky):
    net = leaky()
    for _ in chunked_forward(net, torch.randn(7, 2, 3), 3):
        break
    assert not net.v.requires_grad


def test_a_net_of_single_steps_is_refused(leaky):
    for net in (leaky(step_mode="s"), nn.Sequential(nn.Linear(3, 3), leaky(step_mode="s"))):
        for run in (chunked_forward, checkpoint_sequence):
            with pytest.raises(ValueError, match=rf"{run.__name__}: {type(net).__name__} is in step_mode='s'"):
                run(net, torch.ones(4, 2, 3), 2)


def test_checkpoints_update_buffers_once(leaky):
    net = nn.Sequential(leaky(), nn.BatchNorm1d(2))
    x = torch.randn(6, 2, 3, requires_grad=True)
    y = checkpoint_sequence(net, x, 3)
    kept = {name: value.clone() for name, value in net.named_buffers()}
    own = dict(net.named_buffers())
    y.square().sum().backward()
    for name, value in net.named_buffers():
        assert value is own[name]
        assert torch.equal(value, kept[name])


def test_a_recorder_ignores_what_a_checkpoint_runs_again(leaky):
    net = leaky()
    with Recorder(net, outputs="") as record:
        checkpoint_sequence(net, torch.randn(6, 2, 3, requires_grad=True), 2).sum().backward()
    assert len(record[""]) == 6
