"""Normalisation, scaling, adaptive thresholds, winner-take-all, short-term plasticity."""

import pytest
import torch

import snn_learning as sl
from snn_learning import functional as F


def test_winners_are_the_highest():
    scores = torch.tensor([[1.0, 5.0, 3.0, 5.0], [0.0, -1.0, -2.0, -3.0]])
    assert F.winner_take_all(scores).tolist() == [[False, True, False, False], [True, False, False, False]]
    assert F.winner_take_all(scores, 3).sum(1).tolist() == [3, 3]
    some = F.winner_take_all(scores, 2, eligible=scores > 4.0)
    assert some.tolist() == [[False, True, False, True], [False] * 4]


@pytest.mark.parametrize(("scope", "groups"), [("global", 1), ("map", 3), ("position", 20)])
def test_scopes(scope, groups):
    scores = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    won = F.winner_take_all(scores, 2, scope=scope)
    assert won.sum().item() == 2 * groups * 2
    moved = {"global": won.flatten(1), "map": won.flatten(2), "position": won.movedim(1, -1)}[scope]
    assert (moved.sum(-1) == 2).all()


def test_ties_are_drawn_and_repeatable():
    s = torch.ones(400, 4)
    draws = [F.winner_take_all(s, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert (draws[0].sum(0) > 60).all()
    assert (draws[0].sum(1) == 1).all()
    assert F.winner_take_all(s)[:, 0].all()


def test_module_keeps_spikes_of_winners():
    wta = sl.WinnerTakeAll(1, generator=torch.Generator().manual_seed(0), step_mode="m")
    s = torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    v = torch.tensor([[[0.2, 0.4, 0.9]], [[1.0, 2.0, 3.0]]])
    assert wta(s, v).tolist() == [[[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]
    wta.eval()
    assert wta(s)[0].tolist() == [[1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="k must"):
        sl.WinnerTakeAll(0)
    with pytest.raises(ValueError, match="scope"):
        F.winner_take_all(torch.ones(1, 2), scope="map")


def test_adaptive_threshold_sequence_is_steps(spikes):
    s_seq = spikes(9, 4, 3, 5, 5, dtype=torch.float32)
    one, many = (sl.AdaptiveThreshold((3, 1, 1), theta_plus=0.1, tau=30.0) for _ in range(2))
    for s in s_seq:
        one.update(s)
    many.update(s_seq)
    torch.testing.assert_close(one.theta, many.theta)
    assert one.theta.shape == (3, 1, 1)
    assert (one.theta > 0).all()
    torch.testing.assert_close(one(torch.ones(2, 3, 5, 5))[0, :, 0, 0], 1 - one.theta[:, 0, 0])
    kept = one.eval().theta.clone()
    one.update(s_seq)
    assert torch.equal(one.theta, kept)
    assert "theta" in one.state_dict()
    with pytest.raises(ValueError, match="do not fit"):
        many.update(torch.ones(2, 4, 5, 5))


def test_adaptive_threshold_grows_by_the_mean():
    threshold = sl.AdaptiveThreshold(2, theta_plus=0.5, tau=float("inf"))
    threshold.update(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert threshold.theta.tolist() == [0.5, 0.25]


def test_normalisation():
    w = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    assert F.normalize_weights(w, 2.0).tolist() == [[0.5, -1.5], [0.0, 0.0]]
    mask = torch.tensor([[1, 0], [1, 1]])
    assert F.normalize_weights(w, 2.0, mask=mask).tolist() == [[2.0, -3.0], [0.0, 0.0]]
    torch.testing.assert_close(F.normalize_weights(w, 5.0, p=2.0)[0].norm(), torch.tensor(5.0))
    with pytest.raises(ValueError, match="target"):
        F.normalize_weights(w, 0.0)


def test_scaling():
    w = torch.ones(2, 3)
    got = F.synaptic_scaling(w, torch.tensor([0.1, 0.5]), 0.3, lr=0.5)
    torch.testing.assert_close(got[:, 0], torch.tensor([1.1, 0.9]))
    with pytest.raises(ValueError, match="N_post"):
        F.synaptic_scaling(w, torch.ones(3), 0.3, lr=0.5)


def test_short_term_module(spikes):
    s_seq = spikes(20, 2, 3)
    one, many = sl.TsodyksMarkram(rest="U"), sl.TsodyksMarkram(rest="U", step_mode="m")
    torch.testing.assert_close(torch.stack([one(s) for s in s_seq]), many(s_seq))
    with pytest.raises(ValueError, match="0 or 1"):
        one(torch.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="U must"):
        sl.TsodyksMarkram(U=2.0)


def test_rate_rules_reach_their_fixed_points(spikes):
    """Oja's rows end with unit norm along the first principal component; instar weights at the mean of their inputs."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2000, 3, generator=g, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.5])
    w = torch.rand(1, 3, generator=g, dtype=torch.float64)
    for _ in range(200):
        w = F.step(sl.Oja(lr=0.02), w, x[0], x[0] @ w.t()).w
    assert w.norm().item() == pytest.approx(1.0, abs=0.01)
    assert abs(w[0, 0].item()) > 0.99
    s = spikes(1, 50, 4)
    w = torch.zeros(1, 4, dtype=torch.float64)
    for _ in range(200):
        w = F.step(sl.Instar(lr=0.1, tau=0.0), w, s[0], torch.ones(50, 1)).w
    torch.testing.assert_close(w[0], s[0].mean(0))
