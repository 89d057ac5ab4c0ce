"""Sequences stored with time as the last dim, ``[N, ..., T]``, seen as ``[T, N, ...]``."""

import pytest
import torch

from snn_neurons import LIFNode
from snn_neurons.native_build import no_compiler

BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(bool(no_compiler()), reason="no C compiler"))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 4, 5, 6), (4, 9), (1, 1, 8)])
def test_time_last_storage_gives_what_contiguous_storage_gives(shape, backend):
    torch.manual_seed(0)
    stored, upstream = torch.randn(shape) + 0.5, torch.randn(shape)
    tau = torch.rand(shape[1:2] + (1,) * (len(shape) - 3) if len(shape) > 2 else ()) + 1.5
    results = []
    for contiguous in (True, False):
        leaf = stored.clone().requires_grad_()
        x, g = leaf.movedim(-1, 0), upstream.movedim(-1, 0)
        if contiguous:
            x, g = x.contiguous(), g.contiguous()
        node = LIFNode(tau, learnable=("tau",), step_mode="m", backend=backend, store_v_seq=True)
        y = node(x)
        ((y + node.v_seq) * g).sum().backward()
        results.append((y, node.v_seq, node.v, leaf.grad, node.tau.grad))
    assert bool(results[0][0].any())
    assert not x.is_contiguous() or min(shape[-1], x[0].numel()) == 1
    for a, b in zip(results[0][:4], results[1][:4], strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(results[1][4], results[0][4])
