"""The CUBA neuron against slayer, bit for bit, and against its equations."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snn_base import reset_net
from snn_lava_bridge import (
    BatchNorm2d,
    CubaLIFNode,
    MeanOnlyBatchNorm,
    SlayerPdf,
    leaky_integrator,
    quantize_8b,
    right_shift_to_zero,
)
from snn_neurons.node_program import node_program
from snn_neurons.surrogates import ATan

CASES = [
    "basic", "beyond_24bit", "equal_threshold", "float_input", "grad_per_channel", "grad_scaled", "grad_shared",
    "graded",
    "integrate_and_fire", "mean_only_norm_eval", "nchwt", "negative_heavy", "no_current_leak", "per_channel",
    "scale100_not_pow2", "scale1_loihi_range", "scale32", "th_not_on_grid",
]  # fmt: skip
INTEGRATORS = [
    "no_threshold", "threshold", "per_channel", "decay0", "decay1", "decay4095", "decay4096", "w64", "w6400_not_pow2",
    "initial_state", "negative", "nchwt_shared",
]  # fmt: skip


def make(g, case, backend="auto", **options):
    p = g.settings[case]
    decays = [
        g.raw(f"{case}/{n}_decay_param") / 4096 if f"{case}/{n}_decay_param" in g else torch.tensor(p[f"{n}_decay"])
        for n in ("current", "voltage")
    ]
    norm = None
    if "norm" in p:
        mean = g.raw(f"{case}/norm_running_mean")
        norm = MeanOnlyBatchNorm(len(mean), pre_hook_fx=quantize_8b).eval()
        norm.running_mean.copy_(mean)
    node = CubaLIFNode(
        *[d.squeeze() for d in decays],
        p["threshold"],
        scale=p["scale"],
        requires_grad=p["requires_grad"],
        norm=norm,
        decay_gradient="slayer",
        graded_spike=p.get("graded_spike", False),
        wide=case == "beyond_24bit",
        backend=backend,
        step_mode="m",
        store_v_seq=True,
        store_i_seq=True,
        **options,
    )
    node.surrogate = SlayerPdf(node.effective_threshold, p["tau_grad"], p["scale_grad"])
    return node


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_forward_is_slayers_bit_for_bit(case, backend, golden):
    g = golden("cuba_neuron")
    node = make(g, case, backend)
    spikes = node(g.seq(f"{case}/input"))
    assert torch.equal(node.i_seq, g.seq(f"{case}/current"))
    assert torch.equal(node.v_seq, g.seq(f"{case}/voltage"))
    assert torch.equal(spikes, g.seq(f"{case}/spikes"))
    if case not in ("graded", "mean_only_norm_eval"):
        assert node.threshold_mantissa == g.settings[case]["device_params"]["vThMant"]
        assert node.current_decay_mantissa.tolist() == g.settings[case]["device_params"]["iDecay"]
        assert node.voltage_decay_mantissa.tolist() == g.settings[case]["device_params"]["vDecay"]


@pytest.mark.parametrize("source", ["spikes", "voltage", "current"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_slayers(case, source, golden):
    g = golden("cuba_neuron")
    node, x = make(g, case), g.seq(f"{case}/input").clone().requires_grad_()
    y = {"spikes": node(x), "voltage": node.v_seq, "current": node.i_seq}[source]
    (y * g.seq(f"{case}/upstream_grad")).sum().backward()
    expected = g.seq(f"{case}/grad_input_from_{source}")
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for name in ("current", "voltage"):
        key = f"{case}/grad_{name}_decay_from_{source}"
        if key in g:
            mine = getattr(node, f"{name}_decay").grad / 4096  # the vectors are for decays in units of 1/4096
            torch.testing.assert_close(
                mine.reshape(-1), g.raw(key), rtol=2e-3, atol=2e-3 * float(g.raw(key).abs().max())
            )


def test_state_is_kept_between_pieces(golden):
    g, case = golden("cuba_neuron"), "persistent"
    node = CubaLIFNode(0.2, 0.05, 1.0, step_mode="m")
    spikes = []
    for k, piece in enumerate(g.seq(f"{case}/input").split(g.settings[case]["chunks"])):
        spikes.append(node(piece))
        assert torch.equal(node.i / node.s_scale, g.raw(f"{case}/state_current_after{k}"))
        assert torch.equal(node.v / node.s_scale, g.raw(f"{case}/state_voltage_after{k}"))
    assert torch.equal(torch.cat(spikes), g.seq(f"{case}/spikes"))


def test_fires_strictly_above_a_large_threshold_where_slayer_does_not(golden):
    g, case = golden("cuba_neuron"), "quirk_eps_lost_th100"
    node = CubaLIFNode(1.0, 1.0, 100.0, step_mode="m", store_v_seq=True)
    spikes = node(g.seq(f"{case}/input"))
    assert torch.equal(spikes, (node.v_seq > 100).float())
    assert not torch.equal(spikes, g.seq(f"{case}/spikes"))


@pytest.mark.parametrize("case", INTEGRATORS)
def test_leaky_integrator_is_slayers(case, golden):
    g = golden("leaky_integrator")
    p = g.settings[case]
    x, decay = g.seq(f"{case}/input").clone().requires_grad_(), g.raw(f"{case}/decay").clone().requires_grad_()
    shaped = decay.view(-1, *([1] * (x.dim() - 3))) if decay.numel() > 1 else decay
    state = g.raw(f"{case}/state")
    y = leaky_integrator(x, shaped, state, s_scale=p["w_scale"], threshold=p["threshold"], gradient="slayer")
    assert torch.equal(y, g.seq(f"{case}/output"))
    (y * g.seq(f"{case}/upstream_grad")).sum().backward()
    torch.testing.assert_close(x.grad, g.seq(f"{case}/grad_input"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decay.grad, g.raw(f"{case}/grad_decay"), rtol=2e-3, atol=1e-3)


def test_right_shift_rounds_toward_zero(golden):
    g = golden("leaky_integrator")
    assert torch.equal(right_shift_to_zero(g.raw("right_shift_to_zero/x"), 12), g.raw("right_shift_to_zero/y"))
    with pytest.raises(TypeError, match="int32 or int64"):
        right_shift_to_zero(torch.ones(1), 12)


def relaxed(x, a_i, a_v, threshold):
    """The equations in float64 without rounding, spikes and resets included."""
    i = v = torch.zeros_like(x[0])
    total = torch.zeros((), dtype=torch.float64)
    for t, step in enumerate(x):
        i = (1 - a_i) * i + step
        v = (1 - a_v) * v + i
        total = total + ((t % 5) - 1.5) * v.sum()
        v = torch.where(v > threshold, torch.zeros_like(v), v)
    return total


@pytest.mark.parametrize("threshold", [1e3, 2.0])
def test_true_gradients_are_those_of_finite_differences(threshold):
    x = torch.randn(12, 2, 5, dtype=torch.float64) * 2
    a_i, a_v = 0.31, 0.12
    node = CubaLIFNode(a_i, a_v, threshold, scale=2**20, requires_grad=True, detach_reset=True, step_mode="m",
                       store_v_seq=True)  # fmt: skip
    x_ = x.clone().requires_grad_()
    spikes = node(x_)
    assert bool(spikes.any()) == (threshold == 2.0)
    weights = (torch.arange(12) % 5 - 1.5).double().view(-1, 1, 1)
    (node.v_seq * weights).sum().backward()
    a_i, a_v = round(a_i * 4096) / 4096, round(a_v * 4096) / 4096
    eps = 1e-6
    for k, name in enumerate(("current_decay", "voltage_decay")):
        high, low = [a_i, a_v], [a_i, a_v]
        high[k] += eps
        low[k] -= eps
        slope = (relaxed(x, *high, threshold) - relaxed(x, *low, threshold)) / (2 * eps)
        torch.testing.assert_close(getattr(node, name).grad.double(), slope, rtol=1e-4, atol=1e-4)
    moved = torch.zeros_like(x)
    moved[3, 1, 2] = eps
    slope = (relaxed(x + moved, a_i, a_v, threshold) - relaxed(x - moved, a_i, a_v, threshold)) / (2 * eps)
    torch.testing.assert_close(x_.grad[3, 1, 2], slope, rtol=1e-4, atol=1e-6)


# One case per kernel that has to be compiled.
@pytest.mark.parametrize(
    ("arithmetic", "gradient", "scale", "per_channel"),
    [("slayer", "true", 64, True), ("slayer", "slayer", 64, False), ("chip", "true", 1024, True)],
)
@given(st.integers(0, 2**20))
@settings(max_examples=5)
def test_kernel_equals_reference_and_single_steps(arithmetic, gradient, scale, per_channel, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (3,) if per_channel else ()
    decays = [torch.rand(shape, generator=generator) for _ in range(2)]
    x = (torch.randn(9, 2, 3, 2, 5, generator=generator) * 120 * 64 / scale).round() / 64
    g = torch.randn(x.shape, generator=generator)
    results = []
    for backend, mode in (("native", "m"), ("torch", "m"), ("torch", "s")):
        node = CubaLIFNode(
            *decays, 200.0 / scale, scale=scale, arithmetic=arithmetic, decay_gradient=gradient, requires_grad=True,
            bias=torch.linspace(-20, 20, 3) / scale, backend=backend, step_mode=mode, surrogate_function=ATan(0.05),
        )  # fmt: skip
        x_ = x.clone().requires_grad_()
        y = node(x_) if mode == "m" else torch.stack([node(step) for step in x_])
        (y * g).sum().backward()
        results.append((y, node.v, node.i, x_.grad, node.current_decay.grad, node.voltage_decay.grad))
    for other in results[1:]:
        for k, (a, b) in enumerate(zip(results[0], other, strict=True)):
            if k < 3:
                assert torch.equal(a, b)
            else:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-12)


@given(st.integers(0, 2**20), st.sampled_from([1.0, 0.5, 0.01]))
def test_chip_arithmetic_in_float32_equals_integers(seed, decay):
    """Currents wrap, voltages saturate: float32 against Python integers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-(2**18), 2**18, (30, 1, 4), generator=generator).float()
    node = CubaLIFNode(decay, 0.003, 100000.0, scale=1, arithmetic="chip", step_mode="m")
    spikes = node(x)
    retain_i, retain_v = 4096 - int(node.current_decay_mantissa), 4096 - int(node.voltage_decay_mantissa)
    for k in range(4):
        u = v = 0
        for t in range(30):
            u = (abs(u) * retain_i >> 12) * (1 if u > 0 else -1) + 64 * int(x[t, 0, k])
            u = (u + 2**23) % 2**24 - 2**23
            v = (abs(v) * retain_v >> 12) * (1 if v > 0 else -1) + u
            v = max(min(v, 2**23 - 1), -(2**23 - 1))
            fired = v > 64 * 100000
            assert spikes[t, 0, k] == fired
            v = 0 if fired else v
        assert (int(node.i[0, k]), int(node.v[0, k])) == (u, v)


def test_a_trained_decay_stays_in_range_and_copies():
    node = CubaLIFNode(0.999, 0.001, requires_grad=True, step_mode="m")
    optimizer = torch.optim.SGD(node.parameters(), lr=10.0)
    x = torch.randn(10, 3, 4)
    node(x).sum().backward()
    optimizer.step()
    reset_net(node)
    node(x)
    assert 0 <= node.current_decay.item() <= 1
    assert 0 <= node.voltage_decay.item() <= 1
    again = pickle.loads(pickle.dumps(node))
    assert torch.equal(again.v, node.v)


def test_norm_of_the_current_becomes_bias_and_threshold_on_the_chip():
    norm = BatchNorm2d(3, pre_hook_fx=quantize_8b)
    x = torch.randn(20, 4, 3, 5, 5)
    CubaLIFNode(0.5, 0.1, norm=norm, step_mode="m")(x)
    norm.eval()
    assert norm.exponent != 0
    slayer = CubaLIFNode(1.0, 0.0, 1.0, norm=norm, step_mode="m")
    chip = CubaLIFNode(1.0, 0.0, 1.0, norm=norm, arithmetic="chip", step_mode="m")
    assert chip.chip_threshold() == 64 * 2**norm.exponent
    whole = (x * 8).round() / 8
    assert (slayer(whole) != chip(whole)).float().mean() < 0.01  # one divides the state, the other does not


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"current_decay": 1.5}, "current_decay must lie in 0 ... 1"),
        ({"voltage_decay": torch.ones(2, 2)}, "one value per channel"),
        ({"v_threshold": 0.001}, "below one unit"),
        ({"v_reset": 0.5}, "v_reset must be 0"),
        ({"scale": 0}, "scale must be a positive integer"),
        ({"scale": 2.5}, "scale must be a positive integer"),
        ({"arithmetic": "float"}, "arithmetic must be one of"),
        ({"decay_gradient": "none"}, "decay_gradient must be one of"),
        ({"graded_spike": True, "arithmetic": "chip"}, "graded_spike"),
        ({"norm": nn.BatchNorm2d(3)}, "norm must be"),
        ({"norm": BatchNorm2d(3), "backend": "native"}, "backend"),
        ({"backend": "cupy"}, "backend must be one of"),
    ],
)
def test_wrong_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        CubaLIFNode(**{"current_decay": 0.5, "voltage_decay": 0.5, **options})


@pytest.mark.parametrize("arithmetic", ["slayer", "chip"])
def test_one_kernel_serves_every_scale_threshold_decay_and_bias(arithmetic):
    nodes = [
        CubaLIFNode(0.5, 0.1, 1.0, scale=64, arithmetic=arithmetic),
        CubaLIFNode(0.2, 0.7, 2.3, scale=1024, bias=0.5, arithmetic=arithmetic),
    ]
    assert node_program(nodes[0]) == node_program(nodes[1])


def test_stored_currents_are_no_part_of_the_program_nor_of_a_copy():
    node = CubaLIFNode(0.5, 0.1, step_mode="m", store_i_seq=True, requires_grad=True)
    for _ in range(3):
        node(torch.randn(4, 2, 3))
        assert node.i_seq.requires_grad
        known = len(node._structures)
    node(torch.randn(4, 2, 3))
    assert len(node._structures) == known
    assert copy.deepcopy(node).i_seq is None


@pytest.mark.parametrize("norm", [None, MeanOnlyBatchNorm(3)])
def test_scaled_and_shifted_inputs(norm):
    scale, shift = torch.rand(3), torch.randn(3)
    x = torch.randn(7, 2, 3)
    options = {"norm": norm and norm.eval(), "step_mode": "m", "store_v_seq": True, "store_i_seq": True}
    one, two = (CubaLIFNode(0.5, 0.1, 0.5, **options) for _ in range(2))
    assert torch.equal(one(x, scale, shift), two(x * scale + shift))
    assert torch.equal(one.v_seq, two.v_seq)
    assert torch.equal(one.i_seq, two.i_seq)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # what the compiler itself does
def test_compiles_as_one_graph():
    node = CubaLIFNode(torch.tensor([0.25, 0.5, 0.1]), 0.1, 0.5, requires_grad=True, step_mode="m")
    x = (torch.randn(6, 2, 3, 4) * 64).round() / 64
    compiled = torch.compile(node, fullgraph=True, backend="aot_eager")
    results = []
    for run in (node, compiled):
        reset_net(node)
        node.zero_grad()
        y = run(x)
        (y * torch.linspace(0, 1, 6).view(-1, 1, 1, 1)).sum().backward()
        results.append((y, node.v, node.i, node.current_decay.grad.clone(), node.voltage_decay.grad.clone()))
    assert bool(results[0][0].any())
    for eager, graph in zip(*results, strict=True):
        assert torch.equal(eager, graph)
