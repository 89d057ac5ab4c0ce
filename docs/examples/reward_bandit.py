"""A bandit with cues, learned by reward-modulated plasticity: the reward comes late, and halfway the arms are swapped.

    python reward_bandit.py
    python reward_bandit.py --seed 3 --trials 4000

Each trial shows one of four cues to forty noisy input neurons. Four output neurons, one for each arm, race; the one
with most spikes silences the others and its arm is pulled. Ten steps later comes a reward, which meets what is left of
the eligibility of each synapse::

    e[t] = e[t-1] * exp(-1 / tau_e) + s_post[t] x_pre[t];    dw[t] = lr * (r[t] - mean reward of the cue) * e[t]

Nothing is backpropagated. A figure is drawn where matplotlib is installed.
"""

import argparse
import os
from pathlib import Path

import torch
from digits import fail
from torch import Tensor, nn

from snn_base import reset_net
from snn_learning import Hebb, Learner, RewardModulated
from snn_neurons import LIFNode

CUES, ARMS, PER_CUE = 4, 4, 10
SHOWN, DELAY = 20, 10  # steps of a cue, and steps until the reward
BATCH = 10  # trials with the same weights; each has its own cue, choice and reward
BEST, OTHERS = 0.9, 0.1  # probability of a reward


class Race(nn.Module):
    """Noisy LIF neurons; the one that fires most keeps its spikes, the others are silenced, ``[T, N, arms]``."""

    def __init__(self, noise: float, generator: torch.Generator) -> None:
        super().__init__()
        self.neurons = LIFNode(tau=4.0, step_mode="m")
        self.noise, self.generator = noise, generator

    def forward(self, current: Tensor) -> Tensor:
        s = self.neurons(current + self.noise * torch.randn(current.shape, generator=self.generator))
        tie = 0.1 * torch.rand(s.shape[1:], generator=self.generator)
        winner = (s.sum(0) + tie).argmax(1)
        return s * nn.functional.one_hot(winner, ARMS).to(s.dtype)


def cue_spikes(cues: Tensor, generator: torch.Generator) -> Tensor:
    """Return spikes ``[T, N, CUES * PER_CUE]``: the cue's neurons fire often while it is shown, all others rarely."""
    p = torch.full((len(cues), CUES, PER_CUE), 0.02)
    p[torch.arange(len(cues)), cues] = 0.4
    s = torch.rand(SHOWN + DELAY, len(cues), CUES * PER_CUE, generator=generator) < p.flatten(1)
    s[SHOWN:] = False
    return s.float()


@torch.no_grad()
def learn(trials: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the reward of every trial, ``[trials]``, and the last mean weight from each cue to each arm."""
    generator = torch.Generator().manual_seed(seed)
    synapse = nn.Linear(CUES * PER_CUE, ARMS, bias=False)
    nn.init.uniform_(synapse.weight, 0.4, 0.6, generator=generator)
    race = Race(1.0, generator)
    rule = RewardModulated(Hebb(lr=1.0, w_min=0.0, w_max=1.0), lr=0.15, tau_e=20.0, eligibility="window")
    learner = Learner(rule, synapse, race, update="window")
    good = torch.randperm(ARMS, generator=generator)  # the good arm of each cue
    expected, history = torch.full((CUES,), 0.5), []
    for trial in range(0, trials, BATCH):
        if trial == trials // 2 // BATCH * BATCH:
            good = good.roll(1)
        cues = torch.randint(CUES, (BATCH,), generator=generator)
        reset_net(race)
        learner.reset()
        choice = race(synapse(cue_spikes(cues, generator))).sum(0).argmax(1)
        chance = torch.where(choice == good[cues], BEST, OTHERS)
        reward = (torch.rand(BATCH, generator=generator) < chance).float()
        surprise = torch.zeros(SHOWN + DELAY, BATCH)
        surprise[-1] = reward - expected[cues]  # each trial's own reward, at the last step only
        learner.step(reward=surprise)
        for cue, r in zip(cues.tolist(), reward.tolist(), strict=True):
            expected[cue] += 0.05 * (r - expected[cue])
        history.append(reward)
    return torch.cat(history), synapse.weight.view(ARMS, CUES, PER_CUE).mean(2).t()


def figure(reward: Tensor, weight: Tensor, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(2, 1), layout="constrained")
    window = max(1, len(reward) // 30)
    left.plot(
        range(window, len(reward) + 1), reward.unfold(0, window, 1).mean(1).numpy(), label=f"last {window} trials"
    )
    left.axvline(len(reward) / 2, color="gray", linestyle=":", label="arms swapped")
    left.axhline(BEST, color="green", linewidth=0.8, label="best possible")
    left.axhline((BEST + (ARMS - 1) * OTHERS) / ARMS, color="red", linewidth=0.8, label="chance")
    left.set(xlabel="trial", ylabel="reward", ylim=(0, 1))
    left.legend(fontsize=7)
    right.imshow(weight.numpy(), vmin=0, vmax=1)
    right.set(xlabel="arm", ylabel="cue", title="mean weight", xticks=range(ARMS), yticks=range(CUES))
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main(arguments: list[str] | None = None) -> tuple[float, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="number of trials, 6000 by default, 3000 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path("reward_bandit_output/reward.png"), help="file of the figure"
    )
    parser.add_argument("--quick", action="store_true", help="fewer trials, to see that it works")
    args = parser.parse_args(arguments)
    quick = args.quick or os.environ.get("SNN_EXAMPLE_QUICK") == "1"
    trials = args.trials or (3000 if quick else 6000)
    if trials < 10 * BATCH:
        fail(f"--trials must be at least {10 * BATCH}, got {trials}")
    reward, weight = learn(trials, args.seed)
    tenth = trials // 10
    before, after = reward[: trials // 2][-tenth:].mean().item(), reward[-tenth:].mean().item()
    print(f"mean reward: {reward[:tenth].mean():.2f} at first, {before:.2f} before the arms were swapped")
    print(f"             {reward[trials // 2 :][:tenth].mean():.2f} after the swap, {after:.2f} at the end")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        figure(reward, weight, args.output)
        print(args.output)
    except ImportError:
        print("no figure: pip install matplotlib")
    except OSError as error:
        fail(f"--output {args.output} cannot be written: {error.strerror}")
    return before, after


if __name__ == "__main__":
    main()
