"""Windows, steps, chunks and batches of every rule agree where they must, and differ where they must."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snn_learning as sl
from snn_learning import functional as F

COINCIDENCES = ["include", "exclude", "pre_first", "post_first"]
FREE = {"w_min": None, "w_max": None}
ADDITIVE = {
    "pair": lambda: sl.PairSTDP(**FREE),
    "pair-include": lambda: sl.PairSTDP(coincidence="include", **FREE),
    "pair-nearest": lambda: sl.PairSTDP(scheme="nearest_symmetric", **FREE),
    "pair-reduced": lambda: sl.PairSTDP(scheme="nearest_reduced", **FREE),
    "pair-pre-centred": lambda: sl.PairSTDP(scheme="nearest_pre_centred", **FREE),
    "triplet": lambda: sl.TripletSTDP("hippocampal_all_to_all", **FREE),
    "vogels": lambda: sl.VogelsSTDP(**FREE),
    "clopath": lambda: sl.ClopathSTDP(theta_minus=0.1, theta_plus=0.3, u_rest=0.0, a_ltd=0.1, a_ltp=0.1, **FREE),
    "hebb": lambda: sl.Hebb(tau_pre=3.0, tau_post=5.0),
    "bcm": lambda: sl.BCM(tau_theta=10.0, tau_post=2.0),
    "diehl-cook-linear": lambda: sl.DiehlCook(mu=0.0, w_min=None, w_max=100.0),
    "mstdp": lambda: sl.MSTDP(sl.PairSTDP(**FREE)),
    "mstdpet": lambda: sl.MSTDPET(sl.PairSTDP(**FREE)),
    "rstdp": lambda: sl.RSTDP(sl.TripletSTDP(**FREE), tau_e=7.0),
}
DEPENDENT = {
    "multiplicative": lambda: sl.PairSTDP(dependence="multiplicative", a_plus=0.1, a_minus=0.1),
    "functions": lambda: sl.PairSTDP(dependence=(lambda w: 1 - w, torch.square), a_plus=0.1, a_minus=0.1),
    "diehl-cook": lambda: sl.DiehlCook(lr=0.1),
    "instar": lambda: sl.Instar(lr=0.1),
    "oja": lambda: sl.Oja(lr=0.1),
}


def activity(spikes, steps=12, batch=3, seed=0):
    return spikes(steps, batch, 5, p=0.4, seed=seed), spikes(steps, batch, 4, p=0.4, seed=seed + 1)


def weight(seed=0, shape=(4, 5)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.6 + 0.2


def reward_for(rule, steps, batch):
    if not rule.needs_reward:
        return None
    return torch.randn(steps, batch, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", ADDITIVE)
def test_window_equals_steps_for_additive_rules(name, spikes):
    rule, w = ADDITIVE[name](), weight()
    pre, post = activity(spikes)
    r = reward_for(rule, 12, 3)
    stepwise = F.sequence(rule, w, pre, post, update="stepwise", reward=r)
    window = F.sequence(rule, w, pre, post, update="window", reward=r)
    assert (stepwise.w - w).abs().max() > 1e-4
    close(window.w, stepwise.w)
    for key, value in stepwise.state.items():
        close(window.state[key], value)


@pytest.mark.parametrize("name", DEPENDENT)
def test_window_differs_where_gains_depend_on_the_weight(name, spikes):
    rule, w = DEPENDENT[name](), weight()
    pre, post = activity(spikes)
    stepwise = F.sequence(rule, w, pre, post, update="stepwise")
    window = F.sequence(rule, w, pre, post, update="window")
    assert (window.w - stepwise.w).abs().max() > 1e-3
    for key, value in stepwise.state.items():
        close(window.state[key], value)  # traces are the same all the same


def test_window_differs_where_a_bound_is_touched(spikes):
    rule = sl.PairSTDP(a_plus=0.5, a_minus=0.5)
    pre, post = activity(spikes)
    stepwise = F.sequence(rule, weight(), pre, post, update="stepwise").w
    assert (F.sequence(rule, weight(), pre, post, update="window").w - stepwise).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "update"),
    [(n, "stepwise") for n in (*ADDITIVE, *DEPENDENT)] + [(n, "window") for n in ADDITIVE],  # where it is exact
)
def test_chunks_equal_the_whole(name, update, spikes):
    rule, w = (ADDITIVE | DEPENDENT)[name](), weight()
    pre, post = activity(spikes)
    r = reward_for(rule, 12, 3)
    whole = F.sequence(rule, w, pre, post, update=update, reward=r)
    chunk, state = w, None
    for part in (slice(0, 1), slice(1, 1), slice(1, 8), slice(8, 12)):
        reward = None if r is None else r[part]
        chunk, state = F.sequence(rule, chunk, pre[part], post[part], state, update=update, reward=reward)
    close(chunk, whole.w)
    for key, value in whole.state.items():
        close(state[key], value)


@pytest.mark.parametrize("update", ["stepwise", "window"])
@pytest.mark.parametrize("name", ADDITIVE)
def test_batch_is_the_mean_of_singles(name, update, spikes):
    rule, w = ADDITIVE[name](), weight()
    pre, post = activity(spikes)
    r = reward_for(rule, 12, 3)
    batch = F.sequence(rule, w, pre, post, update=update, reward=r).w - w
    total = F.sequence(rule, w, pre, post, update=update, reward=r, batch_reduction="sum").w - w
    singles = []
    for n in range(3):
        reward = None if r is None else r[:, n : n + 1]
        one = F.sequence(rule, w, pre[:, n : n + 1], post[:, n : n + 1], update=update, reward=reward)
        singles.append(one.w - w)
    close(batch, torch.stack(singles).mean(0))
    close(total, torch.stack(singles).sum(0))


@pytest.mark.parametrize("name", DEPENDENT)
def test_minibatch_invariant_is_singles_in_turn(name, spikes):
    rule, w = DEPENDENT[name](), weight()
    pre, post = (s.expand(-1, 4, -1) for s in activity(spikes, batch=1))
    together = F.sequence(rule, w, pre, post, update="window", batch_reduction="minibatch_invariant").w
    alone = w
    for _ in range(4):
        alone = F.sequence(rule, alone, pre[:, :1], post[:, :1], update="window").w
    close(together, alone)


@settings(max_examples=30)
@given(
    steps=st.integers(1, 9),
    batch=st.integers(1, 3),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    taus=st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 50.0)),
    coincidence=st.sampled_from(COINCIDENCES),
    functions=st.booleans(),
    seed=st.integers(0, 99),
)
def test_linear_pair_window(steps, batch, sizes, taus, coincidence, functions, seed):
    options = {"dependence": (torch.ones_like, torch.ones_like)} if functions else {}
    rule = sl.PairSTDP(tau_plus=taus[0], tau_minus=taus[1], coincidence=coincidence, **FREE, **options)
    g = torch.Generator().manual_seed(seed)
    pre, post = (torch.randint(0, 2, (steps + 2, batch, n), generator=g).double() for n in sizes)
    w = torch.rand(sizes[1], sizes[0], generator=g, dtype=torch.float64)
    _, state = F.sequence(rule, w, pre[:2], post[:2], update="stepwise")
    stepwise = F.sequence(rule, w, pre[2:], post[2:], state, update="stepwise")
    window = F.sequence(rule, w, pre[2:], post[2:], state, update="window")
    close(window.w, stepwise.w)
    close(window.state["x_pre"], stepwise.state["x_pre"])
    close(window.state["x_post"], stepwise.state["x_post"])


@settings(max_examples=25)
@given(
    dims=st.integers(1, 3),
    groups=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    coincidence=st.sampled_from(COINCIDENCES),
    seed=st.integers(0, 99),
)
def test_conv_pair_window(dims, groups, channels, kernel, stride, padding, dilation, coincidence, seed):
    g = torch.Generator().manual_seed(seed)
    conv = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dims - 1](
        channels[0] * groups, channels[1] * groups, kernel, stride, padding, dilation, groups, bias=False
    ).double()
    pre = torch.randint(0, 2, (4, 2, channels[0] * groups, *[5] * dims), generator=g).double()
    out = conv(pre.flatten(0, 1)).detach()
    post = torch.randint(0, 2, (4, 2, *out.shape[1:]), generator=g).double()
    w = conv.weight.detach()
    sizes = [(n,) * dims for n in (stride, padding, dilation)]
    geometry = F.ConvGeometry(tuple(w.shape), *sizes, groups)
    rule = sl.PairSTDP(coincidence=coincidence, **FREE)
    stepwise = F.sequence(rule, w, pre, post, update="stepwise", geometry=geometry).w
    close(F.sequence(rule, w, pre, post, update="window", geometry=geometry).w, stepwise)
    # What a weight learns is the slope of sum(post * conv(trace)) in that weight.
    x_pre, x_post = torch.zeros_like(pre[0]), torch.zeros_like(post[0])
    want = torch.zeros_like(w)
    include = {"include": (1, 1), "exclude": (0, 0), "pre_first": (1, 0), "post_first": (0, 1)}[coincidence]
    decay = F.decay_factor(20.0)
    for s_pre, s_post in zip(pre, post, strict=True):
        x_pre, x_post = x_pre * decay, x_post * decay
        late_pre, late_post = x_pre + include[0] * s_pre, x_post + include[1] * s_post
        overlap = 0.01 * (conv(late_pre) * s_post).sum() - 0.012 * (conv(s_pre) * late_post).sum()
        want += torch.autograd.grad(overlap, conv.weight)[0]
        x_pre, x_post = x_pre + s_pre, x_post + s_post
    close(stepwise - w, want / 2)


def test_reward_to_go_is_the_eligibility_sum(spikes):
    pre, post = activity(spikes)
    r = reward_for(sl.RSTDP(), 12, 3)
    for timing in ("same", "next"):
        kinds = {}
        for kind in ("per_sample", "window"):
            rule = sl.RewardModulated(sl.PairSTDP(**FREE), tau_e=9.0, timing=timing, eligibility=kind)
            kinds[kind] = F.sequence(rule, weight(), pre, post, update="window", reward=r)
        close(kinds["window"].w, kinds["per_sample"].w)
        assert "eligibility" not in kinds["window"].state


def test_rewards_of_samples_do_not_mix(spikes):
    rule = sl.RSTDP(sl.PairSTDP(**FREE))
    pre, post = activity(spikes)
    w = weight()
    r = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    got = F.sequence(rule, w, pre, post, update="window", reward=r, batch_reduction="sum").w - w
    alone = [
        F.sequence(rule, w, pre[:, n : n + 1], post[:, n : n + 1], update="window", reward=1.0).w - w for n in range(3)
    ]
    close(got, alone[0] - 2 * alone[2])


def test_mask_is_kept_bit_for_bit(spikes):
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(2)) < 0.5
    w = weight()
    w[~mask] = -7.0  # outside the bounds
    pre, post = activity(spikes)
    new = F.sequence(sl.PairSTDP(), w, pre, post, update="stepwise", mask=mask).w
    assert torch.equal(new[~mask], w[~mask])
    assert not torch.equal(new[mask], w[mask])


def test_half_precision_weights_learn_in_float32(spikes):
    pre, post = activity(spikes)
    new, state = F.sequence(sl.PairSTDP(), weight().half(), pre.bool(), post.bool(), update="window")
    assert new.dtype == torch.float16
    assert state["x_pre"].dtype == torch.float32


def test_differentiable_in_amplitudes(spikes):
    a = torch.tensor(0.01, dtype=torch.float64, requires_grad=True)
    pre, post = activity(spikes)
    for update in ("stepwise", "window"):
        w = F.sequence(sl.PairSTDP(a_plus=a, **FREE), weight(), pre, post, update=update).w
        (slope,) = torch.autograd.grad(w.sum(), a)
        assert slope > 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pre": torch.zeros(3, 2, 6)}, "do not fit the weight"),
        ({"post": torch.zeros(4, 2, 4)}, "equal T and N"),
        ({"pre": torch.full((3, 2, 5), 0.5)}, "0 or 1"),
        ({"reward": 1.0}, "takes no reward"),
        ({"update": "fused"}, "update must be one of"),
        ({"batch_reduction": "max"}, "batch_reduction"),
        ({"mask": torch.ones(5, 4)}, "mask must have the shape"),
        ({"state": {"x_pre": torch.zeros(9, 5), "x_post": torch.zeros(2, 4)}}, "earlier call"),
        ({"state": {"u": torch.zeros(2, 5)}}, "must have"),
    ],
)
def test_bad_input(change, match):
    good = {"pre": torch.zeros(3, 2, 5), "post": torch.zeros(3, 2, 4), "update": "window"}
    rule = sl.PairSTDP(scheme="nearest_symmetric")
    with pytest.raises(ValueError, match=match):
        F.sequence(rule, torch.zeros(4, 5), **good | change)


@pytest.mark.parametrize("reward", [None, torch.zeros(4), torch.zeros(3, 4), torch.zeros(1, 2), torch.zeros(3, 2, 1)])
def test_bad_reward(reward):
    with pytest.raises(ValueError, match="reward"):
        F.sequence(
            sl.MSTDPET(), torch.zeros(4, 5), torch.zeros(3, 2, 5), torch.zeros(3, 2, 4), update="window", reward=reward
        )


def test_bad_options():
    for options, match in [
        ({"scheme": "nearest"}, "scheme"),
        ({"coincidence": "both"}, "coincidence"),
        ({"dependence": "soft"}, "dependence"),
        ({"dependence": "power", "w_max": None}, "finite bounds"),
        ({"order": "sequential"}, "pre_first"),
        ({"scheme": "nearest_reduced", "coincidence": "include"}, "exclude"),
        ({"tau_plus": -1.0}, "tau"),
        ({"dt": 0.0}, "dt"),
        ({"w_min": 1.0}, "below w_max"),
    ]:
        with pytest.raises(ValueError, match=match):
            sl.PairSTDP(**options)
    rule = sl.PairSTDP(order="sequential", coincidence="pre_first")
    with pytest.raises(ValueError, match="twice within each step"):
        F.sequence(rule, torch.zeros(4, 5), torch.zeros(3, 2, 5), torch.zeros(3, 2, 4), update="window")
    geometry = F.ConvGeometry((1, 1, 1), (1,), (0,), (1,))
    rule = sl.PairSTDP(scheme="nearest_reduced")
    with pytest.raises(ValueError, match="linear synapse"):
        F.sequence(rule, torch.zeros(1, 1, 1), *[torch.zeros(2, 1, 1, 4)] * 2, update="window", geometry=geometry)
