"""Every neuron against its equation, written a second time here, in float64."""

import math
from types import SimpleNamespace

import pytest
import torch

import snn_neurons
from snn_base import reset_net
from snn_base.testing import assert_state_is_kept_apart, assert_step_modes_agree


def spike(u):
    """Heaviside with the gradient of the arc tangent, by a smooth function that cancels forward."""
    smooth = torch.atan(math.pi * u) / math.pi
    return (u >= 0).to(u) + (smooth - smooth.detach())


def round_clip(u, levels):
    line = u.clamp(0, levels)
    return line.round().detach() + (line - line.detach())


def floor_clip(u, levels):
    line = u * ((u >= 0) & (u < levels + 1))
    return u.floor().clamp(0, levels).detach() + (line - line.detach())


def back(s, q):
    return s.detach() if q.detach else s


def reset(h, s, q, fired=None, theta=None):
    """``s`` spikes fired; ``fired`` says whether, where that is not the same."""
    if q.v_reset is None:
        return h - back(s, q) * (q.v_threshold if theta is None else theta)
    fired = back(s if fired is None else fired, q)
    return (1 - fired) * h + fired * q.v_reset


def lif(x, v, q, decay_input=True):
    rest = 0.0 if q.v_reset is None else q.v_reset
    return v + (x - (v - rest)) / q.tau if decay_input else v - (v - rest) / q.tau + x


def one_memory(charge):
    def step(x, m, q):
        h = charge(x, m["v"], q)
        s = spike(h - q.v_threshold)
        return s, {"v": reset(h, s, q)}

    return step


def plif(decay_input):
    def charge(x, v, q):
        q = SimpleNamespace(**{**vars(q), "tau": 1 + torch.exp(-q.w)})
        return lif(x, v, q, decay_input)

    return one_memory(charge)


def liaf(act, above):
    def step(x, m, q):
        h = lif(x, m["v"], q)
        s = spike(h - q.v_threshold)
        return act(h - q.v_threshold if above else h), {"v": reset(h, s, q)}

    return step


def quadratic(x, v, q):
    return v + (x + q.a0 * (v - q.v_rest) * (v - q.v_c)) / q.tau


def exponential(x, v, q):
    return v + (x + q.v_rest - v + q.delta_T * torch.exp((v - q.theta_rh) / q.delta_T)) / q.tau


def with_recovery(charge):
    def step(x, m, q):
        h = charge(x, m["v"], q) - m["w"] / q.tau
        s = spike(h - q.v_threshold)
        w = m["w"] + (q.a * (h - q.v_rest) - m["w"]) / q.tau_w + q.b * back(s, q)
        return s, {"v": reset(h, s, q), "w": w}

    return step


def alif(x, m, q):
    theta = q.v_threshold + q.beta * m["a"]
    h = lif(x, m["v"], q)
    s = spike(h - theta)
    return s, {"v": reset(h, s, q, theta=theta), "a": q.rho * m["a"] + (1 - q.rho) * back(s, q)}


def clif(x, m, q):
    h = lif(x, m["v"], q, decay_input=False)
    s = spike(h - q.v_threshold)
    memory = m["m"] * torch.sigmoid(h / q.tau) + back(s, q)
    if q.v_reset is None:
        v = h - back(s, q) * (q.v_threshold + torch.sigmoid(memory))
    else:
        v = (1 - back(s, q)) * h + back(s, q) * (q.v_reset - torch.sigmoid(memory))
    return s, {"v": v, "m": memory}


def cuba(x, m, q):
    c = (1 - q.current_decay) * m["c"] + x
    h = (1 - q.voltage_decay) * m["v"] + c
    s = spike(h - q.v_threshold)
    return s, {"v": reset(h, s, q), "c": c}


def synaptic(x, m, q):
    c = m["c"] * (1 - 1 / q.tau_syn) + x
    h = lif(c, m["v"], q)
    s = spike(h - q.v_threshold)
    return s, {"v": reset(h, s, q), "c": c}


def alpha(x, m, q):
    g = m["g"] * (1 - 1 / q.tau_syn) + x
    c = m["c"] * (1 - 1 / q.tau_syn) + g / q.tau_syn
    h = lif(c, m["v"], q)
    s = spike(h - q.v_threshold)
    return s, {"v": reset(h, s, q), "g": g, "c": c}


def glif(x, m, q):
    a, b, g, d, leak, con, sub = (
        1 / (1 + torch.exp(-w))
        for w in (q.w_alpha, q.w_beta, q.w_gamma, q.w_decay, q.w_leak, q.w_conductance, q.w_subtract)
    )
    decayed = (1 - a * (1 - d)) * m["v"]
    h = decayed - (1 - a) * leak + (1 - b * (1 - con)) * x
    s = spike(h - q.v_threshold)
    return s, {"v": h - decayed * g * back(s, q) - (1 - g) * sub * back(s, q)}


def integer(x, m, q):
    h = lif(x, m["v"], q, decay_input=False)
    s = round_clip(h / q.v_threshold, 3)
    return s, {"v": reset(h, s, q, fired=s.clamp(max=1))}


def ternary(x, m, q):
    h = lif(x, m["v"], q)
    up, down = spike(h - q.v_threshold), spike(-h - q.v_threshold)
    return up - down, {"v": reset(h, up - down, q, fired=up + down)}


def burst(x, m, q):
    h = m["v"] + x
    s = floor_clip(h / q.v_threshold, 2)
    return s, {"v": reset(h, s, q, fired=s.clamp(max=1))}


def signed(x, m, q):
    h = m["v"] + x
    up, down = spike(h - q.v_threshold), (1 - spike(h)) * (m["count"] > 0)
    return up - down, {"v": reset(h, up - down, q, fired=up + down), "count": m["count"] + back(up - down, q)}


def resonate(x, m, q):
    z = torch.polar(1 - 1 / q.tau, q.omega) * torch.complex(m["u"], m["v"]) + x
    s = spike(z.imag - q.v_threshold)
    return s, {"v": reset(z.imag, s, q), "u": z.real}


def integrator(decay_input):
    def step(x, m, q):
        v = m["v"] + (x - m["v"]) / q.tau if decay_input else m["v"] * (1 - 1 / q.tau) + x
        return v, {"v": v}

    return step


def sltt(x, m, q):
    h = lif(x, m["v"].detach(), q)
    s = spike(h - q.v_threshold)
    return s, {"v": reset(h, s, q).detach()}


def ottt(x, m, q):
    h = lif(x, m["v"].detach(), q, decay_input=False)
    s = spike(h - q.v_threshold)
    return s, {"v": reset(h, s, q).detach(), "trace": ((1 - 1 / q.tau) * m["trace"] + s).detach()}


EQUATIONS = {
    "IF": one_memory(lambda x, v, q: v + x),
    "LIF": one_memory(lif),
    "LIF-raw-input": one_memory(lambda x, v, q: lif(x, v, q, decay_input=False)),
    "PLIF": plif(True),
    "PLIF-raw-input": plif(False),
    "KLIF": one_memory(lambda x, v, q: torch.relu(q.k * lif(x, v, q))),
    "LIAF": liaf(torch.tanh, above=False),
    "LIAF-above-threshold": liaf(torch.relu, above=True),
    "QIF": one_memory(quadratic),
    "EIF": one_memory(exponential),
    "Izhikevich": with_recovery(quadratic),
    "AdEx": with_recovery(exponential),
    "ALIF": alif,
    "CLIF": clif,
    "CUBA": cuba,
    "Synaptic": synaptic,
    "Alpha": alpha,
    "GLIF": glif,
    "I-LIF": integer,
    "Ternary": ternary,
    "Burst": burst,
    "SignedIF": signed,
    "ResonateAndFire": resonate,
    "Integrator": integrator(True),
    "Integrator-raw-input": integrator(False),
    "SLTT": sltt,
    "OTTT": ottt,
}
ONLINE = ("SLTT", "OTTT")


def inputs(T=7, N=3, C=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.6 + 1.4 * torch.randn(T, N, C, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("v_reset", "detach"), [(None, False), (-0.2, False), (None, True)])
def test_a_neuron_follows_its_equation_with_all_gradients(build, neuron, v_reset, detach):
    node = build(neuron, learn=True, shape=(4,), v_reset=v_reset, detach_reset=detach, step_mode="m", backend="torch")
    node.double()
    x_seq = inputs().requires_grad_()
    generator = torch.Generator().manual_seed(1)
    # A first count of spikes is a whole number, so that the sign of the next is not decided by rounding.
    first = {
        n: (0.5 * torch.randn(3, 4, generator=generator, dtype=torch.float64) + (n == "count")).requires_grad_()
        for n in node.memory_names
    }
    params = {n: getattr(node, n) for n in node.param_names}
    q = SimpleNamespace(**params, detach=detach)
    node.set_memories(first)
    y = node(x_seq)

    memory, expected = first, []
    for x in x_seq.unbind():
        out, memory = EQUATIONS[neuron](x, memory, q)
        expected.append(out)
    expected = torch.stack(expected)

    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    assert len(y.detach().unique()) > 1, "the input must make it fire, and not always"
    assert set(node.memory_names) == set(memory)
    for name in memory:
        torch.testing.assert_close(node.memories[name], memory[name], rtol=1e-9, atol=1e-9, msg=name)

    wanted = [x_seq, *first.values(), *(p for p in params.values() if p is not None)]
    results = [(y, expected), *((node.memories[n], memory[n]) for n in memory)]
    results = [(a, e) for a, e in results if e.requires_grad]
    weights = [torch.randn(a.shape, generator=generator, dtype=torch.float64) for a, _ in results]
    actual = torch.autograd.grad([a for a, _ in results], wanted, weights, allow_unused=True)
    right = torch.autograd.grad([e for _, e in results], wanted, weights, allow_unused=True)
    names = ["x", *first, *(n for n, p in params.items() if p is not None)]
    for name, a, e in zip(names, actual, right, strict=True):
        a, e = (torch.zeros(()) if g is None else g for g in (a, e))
        torch.testing.assert_close(*torch.broadcast_tensors(a.double(), e.double()), rtol=1e-8, atol=1e-9, msg=name)
    assert actual[0].abs().sum() > 0


def test_single_steps_sequences_and_chunks_agree(build, neuron):
    node = build(neuron, learn=True, v_reset=-0.1, backend="torch")
    assert_step_modes_agree(node, inputs().float())


def test_returned_tensors_and_their_graph_outlive_reset_and_detach(build, neuron):
    assert_state_is_kept_apart(build(neuron, step_mode="m", backend="torch"), inputs(T=3).float())


def test_two_sequences_from_reset_give_the_same(build, neuron):
    node = build(neuron, step_mode="m", store_v_seq=True, backend="torch")
    x_seq = inputs().float()
    first = node(x_seq)
    v_seq = node.v_seq
    reset_net(node)
    assert torch.equal(node(x_seq), first)
    assert v_seq.shape == x_seq.shape
    assert torch.equal(v_seq[-1], node.v)


def test_every_neuron_is_in_the_list_and_has_an_equation(build):
    listed = {type(build(name)).__name__ for name in EQUATIONS}
    named = {n for n in snn_neurons.__all__ if n.endswith(("Node", "Integrator"))}
    assert named - listed <= {"SpikingNode", "StepNode", "RecurrentLIFNode", "BatchNormNode"}


@pytest.mark.parametrize(
    ("make", "drive", "expected"),
    [
        # h: 0.6, 1.2 (fires, v = 0), 0.6, 1.2
        (lambda: snn_neurons.IFNode(), [0.6] * 4, [0, 1, 0, 1]),
        # Soft: 0.6, 1.2 -> 0.2, 0.8, 1.4 -> 0.4
        (lambda: snn_neurons.IFNode(v_reset=None), [0.6] * 4, [0, 1, 0, 1]),
        (lambda: snn_neurons.IFNode(v_reset=None), [0.8] * 6, [0, 1, 1, 1, 1, 0]),
        # Exactly at the threshold counts as a spike.
        (lambda: snn_neurons.IFNode(), [0.5] * 4, [0, 1, 0, 1]),
        # tau = 2: h = (v + 1.5) / 2: 0.75, 1.125 -> 0, 0.75, 1.125
        (lambda: snn_neurons.LIFNode(tau=2.0), [1.5] * 4, [0, 1, 0, 1]),
        # tau = 2, decay_input=False: h = v / 2 + 0.6: 0.6, 0.9, 1.05 -> 0, 0.6
        (lambda: snn_neurons.LIFNode(tau=2.0, decay_input=False), [0.6] * 4, [0, 0, 1, 0]),
        (lambda: snn_neurons.ParametricLIFNode(tau=2.0), [1.5] * 4, [0, 1, 0, 1]),
        # Starts at v = -0.1: h = v + (x + v (v - 0.8)) / 2: 0.695, 1.4085 -> -0.1, 0.695
        (lambda: snn_neurons.QIFNode(), [1.5] * 3, [0, 1, 0]),
        # Starts at v = -0.1: h = v + (x - v + exp(v - 0.8)) / 2: 0.6533, 1.3185 -> -0.1, 0.6533
        (lambda: snn_neurons.EIFNode(), [1.0 + 0.1] * 3, [0, 1, 0]),
    ],
)
def test_spike_trains_worked_out_by_hand(make, drive, expected):
    node = make()
    node.step_mode = "m"
    x_seq = torch.tensor(drive).unsqueeze(1)
    assert node(x_seq).flatten().tolist() == expected


def test_parameters_per_channel_broadcast_over_images():
    tau = torch.tensor([1.5, 4.0]).view(2, 1, 1)
    node = snn_neurons.LIFNode(tau=tau, learnable=("tau",), step_mode="m")
    x_seq = torch.rand(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 2
    y = node(x_seq)
    for channel, value in enumerate((1.5, 4.0)):
        alone = snn_neurons.LIFNode(tau=value, step_mode="m")
        assert torch.equal(alone(x_seq[:, :, channel]), y[:, :, channel])
    y.sum().backward()
    assert node.tau.grad.shape == (2, 1, 1)


def test_a_learned_sharpness_of_the_surrogate_gets_its_gradient(build):
    node = snn_neurons.LIFNode(
        surrogate=snn_neurons.Sigmoid(3.0), learnable=("surrogate_alpha",), v_reset=None, step_mode="m", backend="torch"
    ).double()
    x_seq = inputs()
    alpha = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    v, total = torch.zeros(3, 4, dtype=torch.float64), 0.0
    weights = torch.linspace(-1, 1, 7, dtype=torch.float64)
    for x, weight in zip(x_seq.unbind(), weights, strict=True):
        h = v + (x - v) / 2
        smooth = torch.sigmoid(alpha * (h - 1))
        s = (h >= 1).double() + (smooth - smooth.detach())
        v = h - s
        total = total + weight * s.sum()
    total.backward()
    (node(x_seq) * weights.view(-1, 1, 1)).sum().backward()
    torch.testing.assert_close(node.surrogate_alpha.grad, alpha.grad)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: snn_neurons.LIFNode(tau=0.5), ValueError, "LIFNode: tau must be at least 1, got 0.5"),
        (lambda: snn_neurons.ParametricLIFNode(tau=1.0), ValueError, "tau must be above 1"),
        (lambda: snn_neurons.EIFNode(delta_T=0.0), ValueError, "delta_T must be above 0"),
        (lambda: snn_neurons.AdaptiveLIFNode(rho=1.5), ValueError, r"rho must lie in \[0, 1\], got 1.5"),
        (lambda: snn_neurons.AdExNode(tau_w=0.1), ValueError, "AdExNode: tau_w must be at least 1"),
        (lambda: snn_neurons.CubaLIFNode(voltage_decay=-1.0), ValueError, "voltage_decay must lie in"),
        (lambda: snn_neurons.SynapticLIFNode(tau_syn=0.0), ValueError, "tau_syn must be at least 1"),
        (lambda: snn_neurons.GatedLIFNode(alpha=1.0), ValueError, r"alpha must lie in \(0, 1\)"),
        (lambda: snn_neurons.GatedLIFNode(v_reset=0.0), TypeError, "takes no v_reset"),
        (lambda: snn_neurons.IntegerLIFNode(levels=0), ValueError, "levels must be at least 1"),
        (lambda: snn_neurons.BurstNode(gamma=0), ValueError, "gamma must be at least 1"),
        (
            lambda: snn_neurons.BurstNode(spike_dtype=torch.bool),
            ValueError,
            "cannot hold its output; use None or torch.u",
        ),
        (lambda: snn_neurons.TernaryLIFNode(spike_dtype=torch.uint8), ValueError, "cannot hold its output; use None$"),
        (lambda: snn_neurons.LIAFNode(spike_dtype=torch.bool), ValueError, "cannot hold its output"),
        (lambda: snn_neurons.LeakyIntegrator(spike_dtype=torch.bool), ValueError, "leave spike_dtype at None"),
        (lambda: snn_neurons.LeakyIntegrator(tau=0.0), ValueError, "LeakyIntegrator: tau must be at least 1"),
        (lambda: snn_neurons.ResonateAndFireNode(tau=0.0), ValueError, "tau must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
