"""Every rule against trajectories by an independent simulator, in float64 and float32."""

import pytest
import torch

import snn_learning as sl
from snn_learning import functional as F

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
PAIR = [
    *(f"additive_all_to_all_{c}_simultaneous" for c in ("include", "exclude", "pre_first", "post_first")),
    "additive_all_to_all_pre_first_sequential",
    "additive_nearest_pre_centred_exclude_simultaneous",
    "additive_nearest_reduced_exclude_simultaneous",
    "additive_nearest_symmetric_include_simultaneous",
    "morrison_all_to_all_exclude_simultaneous",
    "multiplicative_all_to_all_include_simultaneous",
    "multiplicative_all_to_all_pre_first_sequential",
    "multiplicative_all_to_all_pre_first_simultaneous",
    "multiplicative_nearest_symmetric_exclude_simultaneous",
    "power_all_to_all_pre_first_simultaneous",
]


def pair_rule(meta):
    names = ("tau_plus", "tau_minus", "a_plus", "a_minus", "dt", "coincidence", "mu", "w_0", "w_min", "w_max")
    options = {k: meta[k] for k in names}
    options |= {k: meta[k] for k in ("scheme", "dependence") if k in meta}
    return sl.PairSTDP(**options, order=meta.get("update", "simultaneous"))


def follow(rule, data, dtype, *, states=None, post="s_post", reward=False):
    """Run step by step and compare the weight and the traces after every step."""
    w, state = data["w0"], None
    for t in range(len(data["s_pre"])):
        r = data["reward"][t] if reward else None
        w, state = F.step(rule, w, data["s_pre"][t : t + 1], data[post][t : t + 1], state, reward=r)
        torch.testing.assert_close(w, data["w"][t], atol=TOLERANCE[dtype], rtol=0)
        for ours, (theirs, side) in (states or {}).items():
            value = state[ours][0]
            if value.dim() == 1:
                value = value.expand_as(w) if side == "pre" else value.unsqueeze(1).expand_as(w)
            torch.testing.assert_close(value, data[theirs][t].expand_as(value), atol=TOLERANCE[dtype], rtol=0)


@dtypes
@pytest.mark.parametrize("name", PAIR)
def test_pair(name, dtype, golden):
    meta, data = golden(f"pair_{name}", dtype)
    follow(pair_rule(meta), data, dtype, states={"x_pre": ("xpre", "pre"), "x_post": ("xpost", "post")})


@dtypes
@pytest.mark.parametrize("name", ["all_to_all_mu1.0", "nearest_symmetric_mu0.2"])
def test_diehl_cook(name, dtype, golden):
    meta, data = golden(f"diehlcook_{name}", dtype)
    options = {k: meta[k] for k in ("lr", "x_tar", "mu", "dt", "scheme", "coincidence", "w_min", "w_max")}
    follow(sl.DiehlCook(**options, tau=meta["tau_plus"]), data, dtype, states={"x_pre": ("xpre", "pre")})


@dtypes
@pytest.mark.parametrize("update", ["stepwise", "window"])
@pytest.mark.parametrize("name", ["exclude", "include"])
def test_pair_batch(name, update, dtype, golden):
    meta, data = golden(f"batch_additive_{name}", dtype)
    zero = torch.zeros_like(data["delta_w_sum"])
    for reduction in ("sum", "mean"):
        w, _ = F.sequence(
            pair_rule(meta), zero, data["s_pre"], data["s_post"], update=update, batch_reduction=reduction
        )
        torch.testing.assert_close(w, data[f"delta_w_{reduction}"], atol=TOLERANCE[dtype], rtol=0)


@dtypes
@pytest.mark.parametrize("update", ["stepwise", "window"])
@pytest.mark.parametrize("name", ["conv1d_stride_pad", "conv2d_basic"])
def test_pair_conv(name, update, dtype, golden):
    meta, data = golden(name, dtype)
    meta |= {"w_min": None, "w_max": None}
    zero = torch.zeros_like(data["delta_w"])
    sizes = (tuple(meta[k]) for k in ("stride", "padding", "dilation"))
    geometry = F.ConvGeometry(tuple(zero.shape), *sizes, meta["groups"])
    w, _ = F.sequence(
        pair_rule(meta), zero, data["s_pre"].unsqueeze(1), data["s_post"].unsqueeze(1), update=update, geometry=geometry
    )
    torch.testing.assert_close(w, data["delta_w"], atol=TOLERANCE[dtype], rtol=0)


@dtypes
@pytest.mark.parametrize(
    "name", ["hippocampal_all_to_all_exclude", "visual_all_to_all_pre_first", "visual_nearest_symmetric_exclude"]
)
def test_triplet(name, dtype, golden):
    meta, data = golden(f"triplet_{name}", dtype)
    preset = f"{meta['preset']}_{'nearest' if meta['scheme'] == 'nearest_symmetric' else 'all_to_all'}"
    rule = sl.TripletSTDP(preset, coincidence=meta["coincidence"], w_min=meta["w_min"], w_max=meta["w_max"])
    for key in ("tau_x", "tau_y", "a2_plus", "a3_plus", "a2_minus", "a3_minus", "tau_plus", "tau_minus"):
        assert getattr(rule, key) == meta[key]  # the presets are the published values
    sides = {"r1": "pre", "r2": "pre", "o1": "post", "o2": "post"}
    follow(rule, data, dtype, states={k: (k, side) for k, side in sides.items()})


@dtypes
def test_clopath(dtype, golden):
    meta, data = golden("clopath", dtype)
    names = ("a_ltd", "a_ltp", "theta_minus", "theta_plus", "tau_minus", "tau_plus", "tau_x", "dt", "w_min", "w_max")
    rule = sl.ClopathSTDP(**{k: meta[k] for k in names}, u_rest=meta["u_init"])
    follow(rule, data, dtype, states={"x_bar": ("xb", "pre")}, post="u")


@dtypes
def test_vogels(dtype, golden):
    meta, data = golden("vogels_pre_first", dtype)
    for coincidence in ("pre_first", "post_first"):
        names = ("lr", "alpha", "tau", "dt", "w_min", "w_max")
        follow(sl.VogelsSTDP(**{k: meta[k] for k in names}, coincidence=coincidence), data, dtype)


@dtypes
@pytest.mark.parametrize("eligibility", ["per_sample", "shared"])
@pytest.mark.parametrize("name", ["next_norm_include", "same_raw_include"])
def test_reward(name, eligibility, dtype, golden):
    meta, data = golden(f"reward_{name}", dtype)
    rule = sl.RewardModulated(
        pair_rule(meta),
        lr=meta["lr"],
        tau_e=meta["tau_e"],
        normalised=meta["e_normalised"],
        timing=meta["reward_timing"],
        eligibility=eligibility,
    )
    w, state = data["w0"], None
    for t, reward in enumerate(data["reward"]):
        w, state = F.step(rule, w, data["s_pre"][t : t + 1], data["s_post"][t : t + 1], state, reward=reward)
        elig = state["eligibility"].reshape(w.shape)
        torch.testing.assert_close(w, data["w"][t], atol=TOLERANCE[dtype], rtol=0)
        torch.testing.assert_close(elig, data["elig"][t], atol=TOLERANCE[dtype], rtol=0)


@dtypes
@pytest.mark.parametrize("name", ["depressing", "facilitating"])
def test_short_term(name, dtype, golden):
    meta, data = golden(f"stp_{name}", dtype)
    module = sl.TsodyksMarkram(U=meta["U"], tau_f=meta["tau_f"], tau_d=meta["tau_d"])
    for t, s in enumerate(data["s_pre"]):
        release = module(s.unsqueeze(0))[0]
        for ours, theirs in ((release, "release"), (module.u[0], "u"), (module.x[0], "x")):
            torch.testing.assert_close(ours, data[theirs][t], atol=TOLERANCE[dtype], rtol=0)
