"""Learner and STDPLearner: hooks, step modes, memories, gradients, constraints, refusals."""

import copy

import pytest
import torch
from torch import nn

import snn_learning as sl
from snn_base import MemoryModule, reset_net, set_step_mode
from snn_learning import functional as F


class Spiking(MemoryModule):
    """Integrates its input and fires, with reset to zero."""

    def __init__(self, step_mode="s"):
        super().__init__(step_mode)
        self.register_memory("v", 0.0)
        self.v_seq = None

    def single_step_forward(self, x):
        v = 0.8 * self.v + x
        s = (v >= 0.5).to(v)
        self.v = v * (1 - s)
        return s

    def multi_step_forward(self, x_seq):
        spikes, voltages = [], []
        for x in x_seq:
            spikes.append(self.single_step_forward(x))
            voltages.append(self.v)
        self.v_seq = torch.stack(voltages)
        return torch.stack(spikes)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 6))
        self.register_buffer("mask", (torch.arange(24).view(4, 6) % 3 > 0).float())

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self.mask)


class Fold(nn.Module):
    """Folds time into the batch around a stateless module."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x_seq):
        return self.inner(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])


# torch warns, once, that it pads an even kernel unevenly, which is what is tested
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")

SYNAPSES = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "positions": (lambda: nn.Linear(6, 4), (3, 6)),
    "masked": (Masked, (6,)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, groups=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1, dilation=2), (2, 7, 6)),
    "conv2d-same": (lambda: nn.Conv2d(2, 3, 2, padding="same"), (2, 5, 5)),
    "conv2d-circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 3, 4)),
}


def make(kind="linear", **options):
    torch.manual_seed(0)
    synapse = SYNAPSES[kind][0]().double()
    with torch.no_grad():
        synapse.weight.copy_(torch.rand_like(synapse.weight))
    node = Spiking()
    rule = options.pop("rule", None) or sl.PairSTDP(coincidence="include", a_plus=0.05, a_minus=0.04)
    learner = sl.Learner(rule, synapse, node, **options)
    net = nn.ModuleDict({"synapse": synapse, "node": node, "learner": learner})
    return net, synapse, node, learner


def drive(net, x_seq, step=True):
    for x in x_seq:
        net["node"](net["synapse"](x))
        if step:
            net["learner"].step()


@pytest.mark.parametrize("kind", SYNAPSES)
def test_step_modes_agree(kind, spikes):
    """One call per step, one call after T recorded steps, and a sequence, folded or not, learn the same."""
    x_seq = spikes(6, 2, *SYNAPSES[kind][1], p=0.3)
    free = sl.PairSTDP(coincidence="include", a_plus=0.01, w_min=None, w_max=None)
    results = {}
    for name in ("window", "sequence", "folded"):
        net, synapse, node, learner = make(kind, rule=copy.deepcopy(free), update="window")
        before = synapse.weight.detach().clone()
        if name == "window":
            drive(net, x_seq, step=False)
        else:
            set_step_mode(net, "m")
            if name == "folded":
                learner.remove()
                wrapped = Fold(synapse)
                learner = sl.Learner(free, synapse, node, update="window")
                node(wrapped(x_seq))
            else:
                flat = Fold(synapse)
                outer = sl.Learner(free, flat, node, update="window")
                learner.remove()
                learner = outer
                node(flat(x_seq))
        learner.step()
        results[name] = synapse.weight.detach() - before
    assert results["window"].abs().max() > 1e-4
    torch.testing.assert_close(results["window"], results["sequence"])
    torch.testing.assert_close(results["window"], results["folded"])


def test_learner_is_the_functional_core(spikes):
    net, synapse, _node, _ = make(update="stepwise")
    x_seq = spikes(8, 3, 6)
    w = synapse.weight.detach().clone()
    rule = net["learner"].rule
    state = None
    for x in x_seq:
        drive(net, x.unsqueeze(0))
        # the spikes that the frozen step produced, recomputed from the learner's own trace
        decay = F.decay_factor(rule.tau_minus)
        post = net["learner"].x_post - (0 if state is None else state["x_post"] * decay)
        w, state = F.step(rule, w, x, post.round(), state)
    torch.testing.assert_close(synapse.weight.detach(), w)


def test_resume_is_bit_for_bit(spikes):
    x_seq = spikes(10, 2, 6)
    net, *_ = make()
    drive(net, x_seq)
    first, *_ = make()
    drive(first, x_seq[:5])
    memory = first["node"].v
    resumed, *_ = make()
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed["node"].set_memories({"v": memory})
    drive(resumed, x_seq[5:])
    assert torch.equal(resumed["synapse"].weight, net["synapse"].weight)
    for name, value in net["learner"].memories.items():
        assert torch.equal(value, resumed["learner"].memories[name])


def test_deepcopy_is_a_net_of_its_own(spikes):
    net, *_ = make()
    x_seq = spikes(6, 2, 6)
    drive(net, x_seq[:3])
    twin = copy.deepcopy(net)
    frozen = net["synapse"].weight.detach().clone()
    drive(twin, x_seq[3:])
    assert torch.equal(net["synapse"].weight, frozen)
    assert not torch.equal(twin["synapse"].weight, frozen)
    drive(net, x_seq[3:])
    assert torch.equal(net["synapse"].weight, twin["synapse"].weight)


def test_reset_and_batch_size(spikes):
    net, synapse, node, learner = make()
    drive(net, spikes(3, 2, 6))
    node.reset()
    drive(net, spikes(1, 5, 6), step=False)
    before = synapse.weight.detach().clone()
    with pytest.raises(ValueError, match="reset"):
        learner.step()
    assert torch.equal(synapse.weight, before)
    reset_net(net)
    assert learner.x_pre is None
    drive(net, spikes(3, 5, 6))
    assert learner.x_pre.shape == (5, 6)


def test_reset_of_single_samples(spikes):
    net, _, node, learner = make()
    drive(net, spikes(4, 3, 6, p=0.8))
    reset_net(net, torch.tensor([True, False, False]))
    assert learner.x_pre[0].abs().sum() == 0
    assert learner.x_pre[1].abs().sum() > 0
    node(net["synapse"](torch.zeros(3, 6, dtype=torch.float64)))
    with pytest.raises(RuntimeError, match="waiting"):
        learner.reset(torch.tensor([True, False, False]))


def test_eval_neither_records_nor_learns(spikes):
    net, synapse, _, learner = make()
    net.eval()
    before = synapse.weight.detach().clone()
    drive(net, spikes(3, 2, 6))
    net.train()
    assert torch.equal(synapse.weight, before)
    with pytest.raises(RuntimeError, match="has not run"):
        learner.step()


def test_gradient_for_an_optimizer(spikes):
    x_seq = spikes(8, 3, 6)
    free = {"rule": sl.PairSTDP(w_min=None, w_max=None), "update": "window"}
    net, synapse, *_ = make(**free)
    drive(net, x_seq, step=False)
    net["learner"].step()
    other, theirs, *_ = make(**free, apply="grad")
    optimizer = torch.optim.SGD([theirs.weight], lr=1.0)
    drive(other, x_seq, step=False)
    before = theirs.weight.detach().clone()
    other["learner"].step()
    assert torch.equal(theirs.weight, before)
    optimizer.step()
    torch.testing.assert_close(theirs.weight, synapse.weight)
    bounded, w, *_ = make(update="window", apply="grad")
    drive(bounded, x_seq, step=False)
    bounded["learner"].step()
    torch.optim.SGD([w.weight], lr=1e3).step()
    bounded["learner"].constrain()
    assert w.weight.min() >= 0
    assert w.weight.max() <= 1
    assert bounded["learner"].x_pre is not None


def test_mask_bounds_and_normalisation(spikes):
    net, synapse, *_ = make("masked", normalize=2.0)
    dead = synapse.mask == 0
    before = synapse.weight.detach().clone()
    drive(net, spikes(5, 2, 6))
    assert torch.equal(synapse.weight[dead], before[dead])
    torch.testing.assert_close((synapse.weight * synapse.mask).sum(1), torch.full((4,), 2.0, dtype=torch.float64))


def test_scaling_raises_the_quiet(spikes):
    net, synapse, *_ = make(
        rule=sl.Hebb(lr=0.0), scaling=sl.SynapticScaling(4, target_rate=0.9, lr=0.05, tau=5.0).double()
    )
    before = synapse.weight.detach().clone()
    drive(net, spikes(5, 2, 6, p=0.02))
    assert (synapse.weight > before).all()


def test_recurrent_synapse(spikes):
    torch.manual_seed(0)
    fc, back, node = nn.Linear(6, 4).double(), nn.Linear(4, 4, bias=False).double(), Spiking()
    rule = sl.PairSTDP(coincidence="include", w_min=None, w_max=None)
    learner = sl.Learner(rule, back, node, update="window")
    x_seq, y, ys = spikes(7, 2, 6, p=0.8), torch.zeros(2, 4, dtype=torch.float64), []
    w = back.weight.detach().clone()
    for x in x_seq:
        y = node(fc(x) + back(y))
        ys.append(y.detach())
    learner.step()
    post = torch.stack(ys)
    pre = torch.cat([torch.zeros_like(post[:1]), post[:-1]])
    torch.testing.assert_close(back.weight.detach(), F.sequence(rule, w, pre, post, update="window").w)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_voltage_rule_reads_the_membrane(mode, spikes):
    rule = sl.ClopathSTDP(theta_minus=0.0, theta_plus=0.1, u_rest=0.0, a_ltd=0.0, a_ltp=0.1)
    net, synapse, node, learner = make(rule=rule)
    before = synapse.weight.detach().clone()
    x_seq = spikes(5, 2, 6, p=0.1)
    if mode == "m":
        node.step_mode = "m"
        node(synapse(x_seq))
        learner.step()
    else:
        drive(net, x_seq)
    assert (synapse.weight >= before).all()
    assert not torch.equal(synapse.weight, before)
    assert learner.u_minus.shape == (2, 4)


def test_reward_reaches_the_rule(spikes):
    net, synapse, _node, learner = make(rule=sl.RSTDP(sl.PairSTDP(w_min=None, w_max=None)), update="window")
    x_seq, before = spikes(5, 3, 6), synapse.weight.detach().clone()
    drive(net, x_seq, step=False)
    for bad in (None, torch.zeros(2), torch.zeros(3, 3)):
        with pytest.raises(ValueError, match="reward"):
            learner.step(bad)
    assert torch.equal(synapse.weight, before)
    learner.step(torch.tensor([1.0, 0.0, -1.0]))
    assert not torch.equal(synapse.weight, before)
    assert learner.eligibility.shape == (3, 4, 6)


def test_refusals(spikes):
    fc, node, rule = nn.Linear(6, 4), Spiking(), sl.PairSTDP()
    for bad in (nn.ConvTranspose2d(1, 1, 1), nn.Sequential(fc, nn.Linear(4, 4)), nn.ReLU(), nn.Bilinear(2, 2, 2)):
        with pytest.raises(TypeError, match="exactly one"):
            sl.Learner(rule, bad, node)
    with pytest.raises(TypeError, match="Rule"):
        sl.Learner("stdp", fc, node)
    with pytest.raises(ValueError, match="update='window'"):
        sl.Learner(rule, fc, node, apply="grad")
    with pytest.raises(ValueError, match="normalize"):
        sl.Learner(rule, fc, node, normalize=0.0)
    with pytest.raises(RuntimeError, match="not called"):
        sl.Learner(rule, fc, node)(torch.zeros(1))
    net, synapse, *_ = make()
    synapse(torch.zeros(2, 6, dtype=torch.float64))
    drive(net, spikes(2, 2, 6), step=False)
    with pytest.raises(ValueError, match="equally often"):
        net["learner"].step()


@pytest.mark.parametrize("functions", [False, True])
@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d-same"])
def test_stdp_learner_follows_its_equation(kind, functions, spikes):
    make_synapse, shape = SYNAPSES[kind]
    module = make_synapse().double()
    out = module(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    pre, post = spikes(7, 3, *shape), spikes(7, 3, *out, seed=1)
    f_pre, f_post = (torch.square, torch.cos) if functions else (None, None)
    learner = sl.STDPLearner(4.0, 3.0, f_pre, f_post)
    w = module.weight.detach().clone()
    want, x_pre, x_post = w.clone(), 0.0, 0.0
    for s_pre, s_post in zip(pre, post, strict=True):
        x_pre, x_post = x_pre - x_pre / 4.0 + s_pre, x_post - x_post / 3.0 + s_post
        leaf = want.clone().requires_grad_()

        def overlap(x, y, leaf=leaf):
            out = torch.func.functional_call(module, {"weight": leaf}, (x,)) - 0
            return torch.autograd.grad((out * y).sum(), leaf)[0] / 3

        gain_up, gain_down = (torch.cos(want), want**2) if functions else (1.0, 1.0)
        want = want + 0.01 * (gain_up * overlap(x_pre, s_post) - gain_down * overlap(s_pre, x_post))
        learner.stdp(s_pre, s_post, module, 0.01)
    torch.testing.assert_close(module.weight.detach(), want)
    if not functions:
        with torch.no_grad():
            module.weight.copy_(w)
        window = sl.STDPLearner(4.0, 3.0, step_mode="m")
        for part in (slice(0, 2), slice(2, 7)):
            window.stdp(pre[part], post[part], module, 0.01)
        torch.testing.assert_close(module.weight.detach(), want)
        assert {"x_pre", "x_post"} <= set(window.state_dict())


def test_stdp_learner_edges():
    fc = nn.Linear(3, 2)
    before = fc.weight.detach().clone()
    learner = sl.STDPLearner(1.0, float("inf"))
    with pytest.raises(ValueError, match="do not fit"):
        learner.stdp(torch.ones(1, 4), torch.ones(1, 2), fc, 0.1)
    assert torch.equal(fc.weight, before)
    learner.stdp(torch.ones(3), torch.ones(2), fc, 0.1)
    torch.testing.assert_close(fc.weight.detach(), before)  # equal traces of one step: both directions cancel
    learner.stdp(torch.ones(3), torch.ones(2), fc, 0.1)
    torch.testing.assert_close(fc.weight.detach(), before - 0.1)  # the pre trace forgot, the post trace did not
    with pytest.raises(ValueError, match="tau_pre"):
        sl.STDPLearner(0.5, 2.0)
