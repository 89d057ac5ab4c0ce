"""The competitive network: its equations, what an update does, resuming, and that it learns."""

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snn_base import reset_net
from snn_base.testing import assert_step_modes_agree
from snn_learning import Instar
from snn_learning.functional import normalize_weights, sequence
from snn_learning.networks import DiehlCookNetwork, RetinaEncoder, assign_labels, classify


def network(inputs: int = 12, neurons: int = 5, **options: float) -> DiehlCookNetwork:
    return DiehlCookNetwork(
        inputs,
        neurons,
        generator=torch.Generator().manual_seed(1),
        **{"v_threshold": 2.0, "anneal_samples": 100, **options},
    )


def reference(net: DiehlCookNetwork, s_in: Tensor) -> Tensor:
    """The equations of the docstring, one neuron at a time."""
    steps, batch, _ = s_in.shape
    out = torch.zeros(steps, batch, net.neurons, dtype=s_in.dtype)
    for n in range(batch):
        v = [0.0] * net.neurons
        for t in range(steps):
            drive = (net.weight @ s_in[t, n]).tolist()
            h = [math.exp(-net.dt / net.tau_m) * v[j] + drive[j] for j in range(net.neurons)]
            margin = [h[j] - float(net.theta[j]) for j in range(net.neurons)]
            best = max(range(net.neurons), key=lambda j: margin[j])
            if margin[best] >= net.v_threshold:
                out[t, n, best] = 1.0
                h = [0.0] * net.neurons
            v = h
    return out


def test_it_follows_its_equations(spikes: Callable[..., Tensor]) -> None:
    net = network(tau_m=5.0).double()
    net.theta = torch.tensor([0.0, 0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
    s_in = spikes(40, 3, 12)
    s = net(s_in)
    torch.testing.assert_close(s, reference(net, s_in), rtol=0, atol=0)
    assert s.sum(2).max() == 1
    assert (s.sum((0, 1)) > 0).sum() >= 3


def test_single_steps_are_the_sequence(spikes: Callable[..., Tensor]) -> None:
    assert_step_modes_agree(network().double(), spikes(20, 3, 12))


def test_its_memory_is_as_wide_as_the_layer(spikes: Callable[..., Tensor]) -> None:
    net = network()
    net(spikes(3, 4, 12, dtype=torch.float32))
    assert net.v.shape == (4, 5)
    reset_net(net)
    net(spikes(3, 2, 12, dtype=torch.float32))
    assert net.v.shape == (2, 5)


def test_one_spike_is_one_pull_of_the_instar_rule(spikes: Callable[..., Tensor]) -> None:
    net = network(tau_m=math.inf, tau_pre=7.0, theta_plus=0.0, lr=0.2, lr_end=0.2).double()
    net.samples += 1  # the weights have their shape already
    s_in = spikes(4, 1, 12, p=0.3)
    before = net.weight
    s = net.learn(s_in)
    counts = s.sum((0, 1))
    assert counts.max() == 1
    # The rule draws towards the trace itself, the network towards the trace at norm 1; with a presynaptic activity
    # scaled by each neuron's own norm the two are one equation.
    for j in counts.nonzero().flatten().tolist():
        t = int(s[:, 0, j].argmax())
        only = torch.zeros_like(s)
        only[t, 0, j] = 1.0
        trace = sum(math.exp(-(t - k) / 7.0) * s_in[k, 0] for k in range(t + 1))
        scaled_in = s_in / torch.linalg.vector_norm(trace)
        expected = sequence(Instar(lr=0.2, tau=7.0), before, scaled_in, only, update="window", batch_reduction="sum").w
        torch.testing.assert_close(net.weight[j], normalize_weights(expected, 1.0, p=2.0)[j])
    silent = counts == 0
    torch.testing.assert_close(net.weight[silent], before[silent])


def test_many_spikes_are_repeated_pulls(spikes: Callable[..., Tensor]) -> None:
    net = network(neurons=1, theta_plus=0.0, lr=0.3, lr_end=0.3).double()
    net.samples += 1
    s_in = spikes(30, 4, 12)
    before = net.weight
    s = net.learn(s_in)
    count = int(s.sum())
    assert count > 10
    state, rows = torch.zeros(4, 12, dtype=torch.float64), []
    for t in range(30):
        state = math.exp(-1 / net.tau_pre) * state + s_in[t]
        rows.append(state[s[t, :, 0] > 0])
    goal = torch.cat(rows).mean(0)
    goal = goal / torch.linalg.vector_norm(goal)
    w = before[0]
    for _ in range(count):
        w = w + 0.3 * (goal - w)
    torch.testing.assert_close(net.weight[0], w / torch.linalg.vector_norm(w))


def test_thresholds_rise_for_winners_and_fall_for_the_others(spikes: Callable[..., Tensor]) -> None:
    net = network(theta_plus=0.01)
    s = net.learn(spikes(20, 4, 12, dtype=torch.float32))
    counts = s.sum((0, 1))
    torch.testing.assert_close(net.theta, 0.01 * (5 * counts - counts.sum()).clamp_min(-100.0))
    for _ in range(50):
        net.learn(spikes(20, 4, 12, dtype=torch.float32))
    assert net.theta.min() >= -0.5 * net.v_threshold


def test_rates_fall_over_the_annealing_and_stay(spikes: Callable[..., Tensor]) -> None:
    net = network(anneal_samples=8)
    assert net.progress == 0.0
    for expected in (0.5, 1.0, 1.0):
        net.learn(spikes(5, 4, 12, dtype=torch.float32))
        assert net.progress == expected
    assert int(net.samples) == 12


def test_an_interrupted_run_goes_on_bit_for_bit() -> None:
    images = torch.rand(24, 4, 4, generator=torch.Generator().manual_seed(0))

    def fresh() -> torch.nn.ModuleDict:
        generator = torch.Generator().manual_seed(3)
        net = DiehlCookNetwork(16, 6, v_threshold=3.0, anneal_samples=24, generator=generator)
        return torch.nn.ModuleDict({"encoder": RetinaEncoder(10, sigma=0.5, contrast=2.0, seed=4), "net": net})

    def learn(run: torch.nn.ModuleDict, part: slice) -> None:
        for rows in images[part].split(4):
            run["net"].learn(run["encoder"](rows))  # type: ignore[operator]

    whole = fresh()
    learn(whole, slice(0, 24))
    first = fresh()
    learn(first, slice(0, 12))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = fresh()
    second.load_state_dict(torch.load(file, weights_only=True))
    learn(second, slice(12, 24))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.state_dict()["net.weight"], whole.state_dict()["net.weight"])


def test_presenting_leaves_no_trace(spikes: Callable[..., Tensor]) -> None:
    net = network(step_mode="s")  # type: ignore[arg-type]
    s_in = spikes(10, 3, 12, dtype=torch.float32)
    before = copy.deepcopy(net.state_dict())
    assert torch.equal(net.respond(s_in), net.respond(s_in))
    assert net.step_mode == "s"
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"lr": 1.0}, "lr"), ({"lr_end": 0.0}, "lr_end"), ({"v_threshold": 0.0}, "v_threshold"),
     ({"neurons": 0}, "neurons"), ({"theta_plus": -1.0}, "theta_plus"), ({"anneal_samples": 0}, "anneal_samples"),
     ({"tau_m": -1.0}, "tau")],
)  # fmt: skip
def test_parameters_out_of_range_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        network(**options)  # type: ignore[arg-type]


def test_bad_input_changes_nothing(spikes: Callable[..., Tensor]) -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    good = spikes(5, 2, 12, dtype=torch.float32)
    for bad in (good[0], good[..., :7], good * 2, good * torch.inf, torch.full_like(good, torch.nan)):
        with pytest.raises(ValueError):
            net.learn(bad)
    with pytest.raises(ValueError, match=r"\[T, N, 12\]"):
        net(good[0])
    with pytest.raises(RuntimeError, match="eval"):
        net.eval().learn(good)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_it_finds_the_classes_without_labels() -> None:
    """Four bars with noise: every neuron ends up with one of them, all of them have one, and labels follow."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (600,), generator=generator)
    images = 0.2 * torch.rand(600, 8, 8, generator=generator)
    for n, c in enumerate(labels.tolist()):
        rows = slice(2 * c, 2 * c + 2)
        images[n, rows] += 0.8
    encoder = RetinaEncoder(20, sigma=0.0, contrast=3.0, seed=1)
    net = DiehlCookNetwork(64, 8, v_threshold=6.0, theta_plus=1e-3, anneal_samples=400, generator=generator)
    bars = torch.eye(4).repeat_interleave(2, 1).unsqueeze(2).expand(4, 8, 8).reshape(4, 64) / 4

    def similarity() -> Tensor:
        return (net.weight @ bars.t()).amax(1).min()

    assert similarity() < 0.6
    for part in images[:400].split(8):
        net.learn(encoder(part))
    assert similarity() > 0.85
    counts = net.respond(encoder(images)).sum(0)
    assignment = assign_labels(counts[:400], labels[:400], classes=4)
    assert set(assignment.labels.tolist()) == {0, 1, 2, 3}
    for readout in ("all_activity", "proportion", "likelihood"):
        read_out = classify(counts[400:], assignment, readout=readout)  # type: ignore[arg-type]
        assert (read_out == labels[400:]).float().mean() > 0.97
