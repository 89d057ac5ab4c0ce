"""Surrogates: exact forward, the stated derivative backward, whatever takes the derivative."""

import dataclasses
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import snn_neurons
from snn_neurons import ATan, FloorClip, LIFNode, RoundClip, ScaledSurrogate, Sigmoid, Surrogate

U = torch.tensor([-6.3, -1.2, -0.51, -0.3, -0.02, 0.0, 0.02, 0.3, 0.49, 0.9, 2.7, 5.5], dtype=torch.float64)


def normal(u, mean, sigma):
    return math.exp(-((u - mean) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))


def logistic(u):
    return 1 / (1 + math.exp(-u))


# The derivative at one point, in plain Python.
FORMULAS = {
    ATan(1.7): lambda u: 1.7 / 2 / (1 + (math.pi / 2 * 1.7 * u) ** 2),
    snn_neurons.ArcTan(2.0, scale=0.7): lambda u: 0.7 / (1 + (2.0 * u) ** 2),
    Sigmoid(3.0): lambda u: 3 * logistic(3 * u) * (1 - logistic(3 * u)),
    snn_neurons.FastSigmoid(3.0): lambda u: 3 / (2 * (1 + 3 * abs(u)) ** 2),
    snn_neurons.SuperSpike(25.0): lambda u: 1 / (1 + 25 * abs(u)) ** 2,
    snn_neurons.Erf(1.5): lambda u: 1.5 / math.sqrt(math.pi) * math.exp(-((1.5 * u) ** 2)),
    snn_neurons.Gaussian(0.4, scale=2.0): lambda u: 2 * normal(u, 0, 0.4),
    snn_neurons.MultiGaussian(): lambda u: (
        0.5 * (1.15 * normal(u, 0, 0.5) - 0.15 * normal(u, 0.5, 3.0) - 0.15 * normal(u, -0.5, 3.0))
    ),
    snn_neurons.PiecewiseExp(2.0): lambda u: math.exp(-2 * abs(u)),
    snn_neurons.Slayer(0.8, tau=0.5): lambda u: 0.8 * math.exp(-abs(u) / 0.5),
    snn_neurons.QPseudoSpike(1.5): lambda u: (1 + 4 * abs(u)) ** -1.5,
    snn_neurons.PiecewiseQuadratic(0.8): lambda u: 0.8 - 0.64 * abs(u) if abs(u) < 1.25 else 0.0,
    snn_neurons.Triangle(0.5): lambda u: 0.3 * (1 - 2 * abs(u)) if abs(u) < 0.5 else 0.0,
    snn_neurons.Rectangle(2.0): lambda u: 2.0 if abs(u) < 0.25 else 0.0,
    snn_neurons.LeakyReLU(0.1, slope=0.5): lambda u: 0.5 if u >= 0 else 0.1,
    snn_neurons.StraightThrough(): lambda u: 1.0,
    RoundClip(2): lambda u: 1.0 if 0 <= u <= 2 else 0.0,
    FloorClip(2): lambda u: 1.0 if 0 <= u < 3 else 0.0,
}
BINARY = [s for s in FORMULAS if not isinstance(s, RoundClip | FloorClip)]
# Those whose derivative has area 1 and those whose second derivative is smooth enough to compare with finite steps.
UNIT_AREA = [s for s in BINARY if isinstance(s, ScaledSurrogate)]
every = pytest.mark.parametrize("surrogate", list(FORMULAS), ids=lambda s: type(s).__name__)


@dataclasses.dataclass(frozen=True)
class Bump(Surrogate):
    """A surrogate as a user writes one."""

    width: float | Tensor = 0.5

    def derivative(self, u: Tensor) -> Tensor:
        return torch.exp(-u.abs() / self.width)


@every
def test_backward_is_the_stated_derivative(surrogate):
    u = U.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(u).sum(), u)
    expected = torch.tensor([FORMULAS[surrogate](x) for x in U.tolist()], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("surrogate", BINARY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_forward_is_the_exact_step_with_one_at_zero(surrogate, dtype):
    u = U.to(dtype)
    y = surrogate(u)
    assert y.dtype == dtype
    assert torch.equal(y, torch.heaviside(u, torch.ones((), dtype=dtype)))


def test_integer_spikes_round_and_floor():
    u = torch.tensor([-1.0, 0.49, 0.51, 1.0, 1.9, 2.6, 7.0])
    assert RoundClip(3)(u).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert FloorClip(3)(u).tolist() == [0, 0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("surrogate", UNIT_AREA, ids=lambda s: type(s).__name__)
def test_a_scaled_surrogate_has_area_one(surrogate):
    u = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    assert torch.trapezoid(surrogate.derivative(u), u).item() == pytest.approx(1.0, abs=3e-3)


@every
def test_function_transforms_give_the_derivative(surrogate):
    expected = surrogate.derivative(U)
    grid = torch.stack([U, U.flip(0)])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(surrogate))(U), expected)
    torch.testing.assert_close(torch.func.jvp(surrogate, (U,), (torch.full_like(U, 2.0),))[1], 2 * expected)
    assert torch.equal(torch.func.vmap(surrogate)(grid), surrogate(grid))
    torch.testing.assert_close(torch.func.jacrev(surrogate)(U), expected.diag())
    torch.testing.assert_close(torch.func.jacfwd(surrogate)(U), expected.diag())


@every
def test_double_backward_differentiates_the_derivative(surrogate):
    def second(function):
        u = U.clone().requires_grad_()
        (first,) = torch.autograd.grad((function(u) * torch.linspace(1, 2, len(U))).sum(), u, create_graph=True)
        if not first.requires_grad:
            return torch.zeros_like(u)
        return torch.autograd.grad(first.sum(), u)[0]

    u = U.clone().requires_grad_()
    derivative = surrogate.derivative(u)
    weighted = (derivative * torch.linspace(1, 2, len(U))).sum()
    expected = torch.autograd.grad(weighted, u)[0] if derivative.requires_grad else torch.zeros_like(u)
    torch.testing.assert_close(second(surrogate), expected)


@pytest.mark.parametrize("surrogate", UNIT_AREA, ids=lambda s: type(s).__name__)
def test_a_learned_sharpness_has_the_gradient_of_the_smooth_function(surrogate):
    # F(u, alpha) is the integral of the derivative up to u; its slope in alpha by central differences.
    points = [-0.6, -0.2, 0.1, 0.4]

    def integral(alpha, u):
        grid = torch.linspace(0, u, 200_001, dtype=torch.float64)
        return torch.trapezoid(type(surrogate)(alpha).derivative(grid), grid).item()

    alpha = torch.full((), surrogate.alpha, dtype=torch.float64, requires_grad=True)
    for u in points:
        y = dataclasses.replace(surrogate, alpha=alpha)(torch.tensor([u], dtype=torch.float64))
        (gradient,) = torch.autograd.grad(y.sum(), alpha)
        step = 1e-3
        slope = (integral(surrogate.alpha + step, u) - integral(surrogate.alpha - step, u)) / (2 * step)
        assert gradient.item() == pytest.approx(slope, rel=1e-3, abs=5e-3)


def test_a_learned_superspike_has_the_gradient_of_its_smooth_function():
    beta = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    u = torch.tensor([-0.6, 0.4], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(snn_neurons.SuperSpike(beta)(u).sum(), beta)
    (expected,) = torch.autograd.grad((u / (1 + beta * u.abs())).sum(), beta)
    torch.testing.assert_close(gradient, expected)


def test_sharpness_may_vary_per_channel_and_be_learned_under_transforms():
    u = torch.stack([U, -U]).float()
    alpha = torch.tensor([[1.0], [3.0]])

    def loss(u, alpha):
        return (Sigmoid(alpha)(u) * torch.arange(12.0)).sum()

    by_u, by_alpha = torch.func.grad(loss, argnums=(0, 1))(u, alpha)
    derivative = torch.stack([Sigmoid(1.0).derivative(u[0]), Sigmoid(3.0).derivative(u[1])])
    torch.testing.assert_close(by_u, derivative * torch.arange(12.0))
    torch.testing.assert_close(by_alpha, (derivative * torch.arange(12.0) * u / alpha).sum(1, keepdim=True))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss, argnums=1))(u, alpha[:, 0]), by_alpha[:, 0])
    _, along = torch.func.jvp(lambda a: Sigmoid(a)(u), (alpha,), (torch.ones_like(alpha),))
    torch.testing.assert_close(along, derivative * u / alpha)


def test_a_surrogate_of_ones_own_is_one_class():
    u = U.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Bump()(u).sum(), u)
    torch.testing.assert_close(gradient, torch.exp(-U.abs() / 0.5))
    fixed = Bump(torch.tensor(0.25))
    (gradient,) = torch.autograd.grad(fixed(u).sum(), u)
    torch.testing.assert_close(gradient, torch.exp(-U.abs() / 0.25))
    node = LIFNode(surrogate=fixed)
    assert "surrogate_width" in node.param_names


def test_a_surrogate_is_an_immutable_value():
    assert ATan() == ATan(2.0)
    assert ATan() != ATan(3.0)
    assert repr(Sigmoid(2.0)) == "Sigmoid(alpha=2.0)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        ATan().alpha = 1.0


def test_a_neuron_owns_the_sharpness_it_learns():
    shared = Sigmoid(2.0)
    one, two = (LIFNode(surrogate=shared, learnable=("surrogate_alpha",)) for _ in range(2))
    with torch.no_grad():
        one.surrogate_alpha.fill_(9.0)
    assert two.surrogate_alpha.item() == 2.0
    assert shared == Sigmoid(2.0)


# torch.compile itself instantiates autograd.Function while it traces one.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_breaks():
    compiled = torch.compile(lambda u: Sigmoid(3.0)(u), fullgraph=True, backend="aot_eager")
    u = U.float().requires_grad_()
    y = compiled(u)
    assert torch.equal(y, Sigmoid(3.0)(u))
    y.sum().backward()
    torch.testing.assert_close(u.grad, Sigmoid(3.0).derivative(U.float()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ATan(0.0), "ATan: alpha must be above 0, got 0.0"),
        (lambda: snn_neurons.Slayer(tau=-1.0), "Slayer: tau must be above 0"),
        (lambda: snn_neurons.QPseudoSpike(1.0), "QPseudoSpike: alpha must be above 1"),
        (lambda: RoundClip(0), "RoundClip: levels must be above 0"),
        (lambda: Bump(torch.ones((), requires_grad=True))(U), "Bump: width has no gradient and cannot be learned"),
    ],
)
def test_wrong_values_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_derivative_must_be_written():
    with pytest.raises(NotImplementedError, match=r"Surrogate must define derivative"):
        Surrogate()(U.clone().requires_grad_()).sum().backward()


def test_plot_draws_both_curves():
    pytest.importorskip("matplotlib", reason="plotting needs the extra [plot]")
    from matplotlib import pyplot as plt

    axes = ATan().plot(low=-1.0, high=1.0, points=5)
    assert [line.get_label() for line in axes.lines] == ["forward", "derivative"]
    assert axes.lines[0].get_ydata()[2] == 1.0
    assert Sigmoid().plot(ax=axes) is axes
    plt.close(axes.figure)
    with pytest.raises(ValueError, match="low < high"):
        ATan().plot(low=1.0, high=0.0)


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"snn-neurons\[plot\]"):
        ATan().plot()


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, snn_neurons; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
