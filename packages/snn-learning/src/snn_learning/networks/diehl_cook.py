"""A competitive spiking layer that learns the clusters of its input without labels."""

import math

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_learning.functional.checks import check_binary
from snn_learning.functional.homeostasis import normalize_weights
from snn_learning.functional.traces import decay_factor, trace


class DiehlCookNetwork(MemoryModule):
    """Leaky integrate-and-fire neurons that inhibit one another and learn by post-gated STDP.

    ::

        h[t] = exp(-dt / tau_m) v[t-1] + W s_in[t]
        s[t] = 1 at the neuron with the highest h[t] - theta, if that is at least v_threshold
        v[t] = 0 for every neuron if one of them fired, else h[t]

    The winner resets all others: lateral inhibition that is immediate and complete, in place of a second population.
    `learn` presents a sequence and then moves weights and thresholds once, for the whole window and batch::

        w[j] <- w[j] + (1 - (1 - lr)**n[j]) * (x[j] - w[j]),    then |w[j]|_2 = 1
        theta[j] <- theta[j] + theta_plus * (neurons * n[j] - sum_j n),  then theta[j] >= -v_threshold / 2

    with ``n[j]`` the neuron's spikes and ``x[j]`` the mean presynaptic trace at those spikes, scaled to norm 1. That is
    the instar rule ``dw = lr * s_post * (x_pre - w)``, `snn_learning.Instar`, applied ``n[j]`` times with that mean,
    which is stable for any number of spikes. The thresholds make every neuron win equally often. The first sequence
    gives the random weights the shape of its mean input: neurons far from every input would never come to fire.

    ``lr`` and ``theta_plus`` fall exponentially from ``lr`` to ``lr_end``, and as its square root, while
    ``anneal_samples`` samples are learned, and stay there. The count of samples is saved with the weights.

    Args:
        inputs: number of input neurons.
        neurons: number of competing neurons.
        v_threshold: firing threshold, in units of the drive of one step.
        tau_m: membrane time constant in ms; infinity for none.
        tau_pre: time constant of the presynaptic trace in ms.
        dt: duration of a step in ms.
        lr, lr_end: learning rate of a spike, at the first sample and after ``anneal_samples``, in (0, 1).
        theta_plus: fall of every threshold with any spike, at the first sample; the neuron that fired gains ``neurons``
            times as much.
        anneal_samples: samples over which the rates fall.
        generator: draws the first weights, uniform in [0, 1) before they are normalised.
        step_mode: ``"s"`` for spikes ``[N, inputs]``, ``"m"`` for ``[T, N, inputs]``.

    Shapes: spikes ``[N, inputs]`` -> ``[N, neurons]``, at most one of them 1 in each sample and step.

    Raises:
        ValueError: a parameter out of range, input of the wrong shape.

    References:
        Diehl, Cook 2015, Unsupervised learning of digit recognition using spike-timing-dependent plasticity;
        Rumelhart, Zipser 1985, Feature discovery by competitive learning.
    """

    weight: Tensor
    theta: Tensor
    samples: Tensor
    v: Tensor

    def __init__(
        self,
        inputs: int,
        neurons: int,
        *,
        v_threshold: float = 12.0,
        tau_m: float = 100.0,
        tau_pre: float = 20.0,
        dt: float = 1.0,
        lr: float = 0.1,
        lr_end: float = 0.005,
        theta_plus: float = 1e-4,
        anneal_samples: int = 60_000,
        generator: torch.Generator | None = None,
        step_mode: str = "m",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        for name, value in (("inputs", inputs), ("neurons", neurons), ("anneal_samples", anneal_samples)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, rate in (("lr", lr), ("lr_end", lr_end)):
            if not 0.0 < rate < 1.0:
                raise ValueError(f"{name} must be in (0, 1), got {rate}")
        if not v_threshold > 0.0:
            raise ValueError(f"v_threshold must be positive, got {v_threshold}")
        if not theta_plus >= 0.0:
            raise ValueError(f"theta_plus must be >= 0, got {theta_plus}")
        self.inputs, self.neurons, self.v_threshold = inputs, neurons, v_threshold
        self.tau_m, self.tau_pre, self.dt = tau_m, tau_pre, dt
        self.lr, self.lr_end, self.theta_plus, self.anneal_samples = lr, lr_end, theta_plus, anneal_samples
        self._leak, self._forget = decay_factor(tau_m, dt), decay_factor(tau_pre, dt)
        # Buffers, not parameters: no optimizer and no gradient has a say in them.
        weight = normalize_weights(torch.rand(neurons, inputs, generator=generator), 1.0, p=2.0)
        self.register_buffer("weight", weight)
        self.register_buffer("theta", torch.zeros(neurons))
        self.register_buffer("samples", torch.zeros((), dtype=torch.int64))
        self.register_memory("v", self._resting)

    # -- the forward pass --------------------------------------------------------------------------------------------
    def single_step_forward(self, x: Tensor) -> Tensor:
        self._check_width(x)
        s, self.v = self._step(nn.functional.linear(x, self.weight), self.v)
        return s

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        self._check_width(x_seq)
        drives = nn.functional.linear(x_seq, self.weight)  # weights stand still inside a window: one product
        v, spikes = self.v, []
        for drive in drives.unbind(0):
            s, v = self._step(drive, v)
            spikes.append(s)
        self.v = v
        return torch.stack(spikes) if spikes else drives

    def _step(self, drive: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        h = self._leak * v + drive
        highest, winner = (h - self.theta).max(1, keepdim=True)
        fires = highest >= self.v_threshold
        s = torch.zeros_like(h).scatter(1, winner, fires.to(h.dtype))
        return s, h.masked_fill(fires, 0.0)

    def _resting(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.neurons, dtype=self.memory_dtype(x))

    def _check_width(self, x: Tensor) -> None:
        dims = 2 if self.step_mode == "s" else 3
        if x.dim() != dims or x.shape[-1] != self.inputs:
            shape = f"[N, {self.inputs}]" if dims == 2 else f"[T, N, {self.inputs}]"
            raise ValueError(f"step_mode={self.step_mode!r} needs spikes of shape {shape}, got {tuple(x.shape)}")

    # -- learning ----------------------------------------------------------------------------------------------------
    @property
    def progress(self) -> float:
        """Share of the annealing that lies behind, from 0 to 1."""
        return min(int(self.samples) / self.anneal_samples, 1.0)

    @torch.no_grad()
    def learn(self, s_in: Tensor) -> Tensor:
        """Present spikes from rest, update weights and thresholds once, and return the neurons' spikes.

        Args:
            s_in: ``[T, N, inputs]`` in either step mode; every sample is a new presentation, so membranes are reset
                before and after.

        Returns:
            Spikes ``[T, N, neurons]``, made with the weights before the update.

        Raises:
            ValueError: another shape, or values other than 0 and 1; nothing is changed then.
            RuntimeError: in eval mode.
        """
        if not self.training:
            raise RuntimeError(
                "DiehlCookNetwork.learn was called in eval mode; call train() first, or present with net(x)"
            )
        if s_in.dim() != 3 or s_in.shape[-1] != self.inputs:
            raise ValueError(f"learn needs spikes of shape [T, N, {self.inputs}], got {tuple(s_in.shape)}")
        if not torch.equal(s_in * s_in, s_in):  # the cheap test first: it holds for 0, 1 and infinity
            check_binary(s_in, "s_in")
        if int(self.samples) == 0:
            self.weight = normalize_weights(self.weight * s_in.mean((0, 1)), 1.0, p=2.0)
        s = self.respond(s_in)
        cooling = (self.lr_end / self.lr) ** self.progress
        counts = s.sum((0, 1))
        self.weight = self._attracted(s_in, s, counts, self.lr * cooling)
        theta = self.theta + self.theta_plus * math.sqrt(cooling) * (self.neurons * counts - counts.sum())
        self.theta = theta.clamp_min(-0.5 * self.v_threshold)
        self.samples = self.samples + s_in.shape[1]
        return s

    @torch.no_grad()
    def respond(self, s_in: Tensor) -> Tensor:
        """Present spikes ``[T, N, inputs]`` from rest and return the neurons' spikes, without learning."""
        self.reset()
        mode = self.step_mode
        self.step_mode = "m"
        try:
            return self(s_in)  # type: ignore[no-any-return]
        finally:
            self.step_mode = mode
            self.reset()

    def _attracted(self, s_in: Tensor, s: Tensor, counts: Tensor, lr: float) -> Tensor:
        traces = trace(s_in, torch.zeros_like(s_in[0]), self._forget)
        t, n, j = s.nonzero(as_tuple=True)  # one winner at most in each step: far fewer rows than a dense product
        total = torch.zeros_like(self.weight).index_add_(0, j, traces[t, n].to(self.weight.dtype))
        pull = (1.0 - (1.0 - lr) ** counts).unsqueeze(1)
        goal = normalize_weights(total, 1.0, p=2.0)
        return normalize_weights(self.weight + pull * (goal - self.weight), 1.0, p=2.0)

    def extra_repr(self) -> str:
        return (
            f"inputs={self.inputs}, neurons={self.neurons}, v_threshold={self.v_threshold}, tau_m={self.tau_m}, "
            f"lr={self.lr}..{self.lr_end}, theta_plus={self.theta_plus}, {super().extra_repr()}"
        )
