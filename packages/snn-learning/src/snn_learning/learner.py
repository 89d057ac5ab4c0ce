"""Local learning attached to a synapse and the neurons behind it."""

from collections.abc import Callable
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, StepModule
from snn_learning.functional.checks import check_choice
from snn_learning.functional.homeostasis import normalize_weights
from snn_learning.functional.rule import Rule, State
from snn_learning.functional.update import BatchReduction, Reward, UpdateMode, bounded, change, sequence
from snn_learning.homeostasis import SynapticScaling
from snn_learning.synapse import describe_synapse


class Learner(MemoryModule):
    """Applies a rule to a synapse, from the spikes that pass while the network runs.

    Forward hooks record what enters ``synapse`` and what leaves ``post``, in either step mode, in train mode only.
    `step` consumes what was recorded since the last call: one step or many. Traces are memories: `reset` and a
    network's reset clear them, ``state_dict`` holds them, and ``deepcopy`` of a network that contains the learner
    copies both together. The learner does not own the synapse: its parameters stay where they are.

    ``apply="weight"`` changes the weight in place and keeps the rule's bounds; ``apply="grad"`` subtracts the change
    from ``weight.grad``, for any optimizer (with ``SGD(lr=1)`` it is the same change), and `constrain` keeps bounds
    after the optimizer's step. Masked weights stay as they are, bit for bit.

    Args:
        rule: what to learn by.
        synapse: ``nn.Linear``, ``nn.Conv1d/2d/3d``, a masked linear module (2-d ``weight``, buffer ``mask``), or a
            wrapper of exactly one of these; also one that carries a layer's output back to it.
        post: the module whose output is the postsynaptic activity: a neuron, or a sequence that ends in one.
        update: ``"stepwise"`` or ``"window"``, see `snn_learning.functional.sequence`.
        apply: ``"weight"`` or ``"grad"``; the latter needs ``update="window"``.
        batch_reduction: ``"mean"``, ``"sum"`` or ``"minibatch_invariant"``.
        normalize: keep the sum of absolute incoming weights of each neuron at this value after every `step`.
        scaling: pulls each neuron's rate to a target after every `step`.
        post_signal: ``(post, output) -> tensor`` of the shape of the output, what the rule takes as postsynaptic
            activity; by default the output, or the voltage ``post.v`` (``post.v_seq`` in step mode ``"m"``) for a rule
            that works on voltage.

    Raises:
        TypeError: an unsupported synapse, or a rule that is none.
        ValueError: an unknown name, or options that exclude each other.

    Example:
        >>> from snn_learning import PairSTDP
        >>> fc, node = nn.Linear(4, 2, bias=False), nn.Hardtanh()
        >>> learner = Learner(PairSTDP(), fc, node)
        >>> _ = node(fc(torch.ones(1, 4)))
        >>> learner.step()
    """

    def __init__(
        self,
        rule: Rule,
        synapse: nn.Module,
        post: nn.Module,
        *,
        update: UpdateMode = "stepwise",
        apply: Literal["weight", "grad"] = "weight",
        batch_reduction: BatchReduction = "mean",
        normalize: float | None = None,
        scaling: SynapticScaling | None = None,
        post_signal: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be a Rule, got {type(rule).__name__}")
        describe_synapse(synapse)
        check_choice(update, "update", ("stepwise", "window"))
        check_choice(apply, "apply", ("weight", "grad"))
        check_choice(batch_reduction, "batch_reduction", ("mean", "sum", "minibatch_invariant"))
        if apply == "grad" and (update != "window" or batch_reduction == "minibatch_invariant"):
            raise ValueError(
                "apply='grad' leaves the weight alone until the optimizer's step, so it needs update='window' and "
                f"batch_reduction 'mean' or 'sum', got {update!r} and {batch_reduction!r}"
            )
        if normalize is not None and not normalize > 0:
            raise ValueError(f"normalize must be positive, got {normalize}")
        self.rule = rule
        self.update, self.apply_to, self.batch_reduction, self.normalize = update, apply, batch_reduction, normalize
        self.scaling = scaling
        self._signal = post_signal
        # Tuples keep modules out of the registry: their parameters belong to the network alone.
        self._synapse, self._post = (synapse,), (post,)
        for name in rule.state_names:
            self.register_memory(name, None, persistent=True)
        self._pre_records: list[Tensor] = []
        self._post_records: list[Tensor] = []  # each [T, N, ...]
        # Bound methods as hooks follow the learner through deepcopy and pickle.
        self._hooks = [
            synapse.register_forward_pre_hook(self._record_pre),
            post.register_forward_hook(self._record_post),
        ]

    # -- recording -----------------------------------------------------------------------------------------------
    def _recording(self) -> bool:
        return self.training and self._synapse[0].training and self._post[0].training

    def _record_pre(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._recording():
            if not args or not isinstance(args[0], Tensor):
                raise TypeError(f"{type(module).__name__} must be called with its input tensor as first argument")
            self._pre_records.append(args[0].detach())

    def _record_post(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._recording():
            return
        s = output[0] if isinstance(output, tuple) else output
        sequence_mode = self._post_step_mode() == "m"
        if self._signal is not None:
            s = self._signal(module, s)
        elif self.rule.post_signal == "voltage":
            s = _voltage(module, sequence_mode)
        self._post_records.append(s.detach() if sequence_mode else s.detach().unsqueeze(0))

    def _post_step_mode(self) -> str:
        for root in (self._post[0], self._synapse[0]):
            for module in root.modules():
                if isinstance(module, StepModule):
                    return module.step_mode
        return self.step_mode

    def _recorded(self, dims: int) -> tuple[Tensor, Tensor]:
        if not self._pre_records or not self._post_records:
            missing = "the synapse" if not self._pre_records else "post"
            raise RuntimeError(
                f"Learner.step: {missing} has not run in train mode since the last step(); run the network first"
            )
        post = torch.cat(self._post_records) if len(self._post_records) > 1 else self._post_records[0]
        batch, extra = post.shape[1], post.dim() - 2 - dims  # extra: positions of a linear map
        pieces = []
        for x in self._pre_records:
            if x.dim() == dims + 1 + extra and batch > 0 and x.shape[0] % batch == 0:
                x = x.unflatten(0, (-1, batch))  # one step, or time folded into the batch
            pieces.append(x)
        pre = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if pre.shape[:2] != post.shape[:2]:
            raise ValueError(
                f"Learner.step: recorded presynaptic activity {tuple(pre.shape)} and postsynaptic activity "
                f"{tuple(post.shape)} differ in [T, N]; synapse and post must run equally often on the same batch. "
                "Call reset() to drop what was recorded"
            )
        return pre, post

    # -- learning ------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def step(self, reward: Reward | None = None) -> None:
        """Learn from what was recorded since the last call; does nothing in eval mode.

        Args:
            reward: for rules that need one: a number, ``[N]``, ``[T, 1]`` or ``[T, N]``.

        Raises:
            RuntimeError: nothing was recorded.
            ValueError: activity, state or reward do not fit; nothing has been changed then.
        """
        if not self.training:
            return
        synapse = describe_synapse(self._synapse[0])
        pre, post = self._recorded(synapse.dims)
        weight = synapse.weight
        options: dict[str, Any] = {"reward": reward, "geometry": synapse.geometry, "mask": synapse.mask}
        pre = synapse.padded(pre.to(torch.promote_types(pre.dtype, torch.float32)))
        if self.apply_to == "grad":
            reduction: Any = self.batch_reduction
            dw, state = change(self.rule, weight, pre, post, self._state(), batch_reduction=reduction, **options)
            weight.grad = -dw if weight.grad is None else weight.grad - dw
        else:
            new, state = sequence(
                self.rule, weight, pre, post, self._state(), update=self.update,
                batch_reduction=self.batch_reduction, **options,
            )  # fmt: skip
            weight.copy_(new)
        if self.scaling is not None:
            self.scaling.observe(post)
        if self.apply_to == "weight":
            self.constrain()
        self.set_memories(state)
        self._forget_records()

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the weight to scaling, normalisation and bounds; after an optimizer's step with ``apply="grad"``."""
        synapse = describe_synapse(self._synapse[0])
        w: Tensor = synapse.weight
        new = w
        if self.scaling is not None:
            new = self.scaling(new)
        if self.normalize is not None:
            new = normalize_weights(new, self.normalize, mask=synapse.mask)
        new = bounded(self.rule, new)
        if new is not w:
            w.copy_(new if synapse.mask is None else torch.where(synapse.mask != 0, new, w))

    def _state(self) -> State | None:
        values = {name: getattr(self, name) for name in self.rule.state_names}
        return None if any(v is None for v in values.values()) else values

    # -- life ----------------------------------------------------------------------------------------------------
    def reset(self, mask: Tensor | None = None) -> None:
        """Clear traces and what was recorded, or the traces of the samples that ``mask`` names.

        Raises:
            RuntimeError: ``mask`` is given while recorded steps wait for `step`.
            ValueError: ``mask`` is given but the eligibility is shared by all samples.
        """
        if mask is None:
            self._forget_records()
        else:
            if self._post_records or self._pre_records:
                raise RuntimeError("Learner.reset(mask): recorded steps are waiting; call step() before")
            if getattr(self.rule, "eligibility", None) == "shared":
                raise ValueError("Learner.reset(mask): eligibility='shared' cannot be reset for single samples")
            if self._state() is None:
                return
        super().reset(mask)

    def _fresh_like(self, name: str, value: Tensor) -> Tensor:
        return torch.full_like(value, self.rule.fresh_value(name))

    def _forget_records(self) -> None:
        self._pre_records, self._post_records = [], []

    def train(self, mode: bool = True) -> "Learner":
        if not mode:
            self._forget_records()
        return super().train(mode)

    def remove(self) -> None:
        """Take the hooks off the network; the learner records no more."""
        for hook in self._hooks:
            hook.remove()

    def forward(self, *args: Any) -> NoReturn:
        raise RuntimeError("a Learner is not called; run the network, then call step()")

    def extra_repr(self) -> str:
        return f"update={self.update!r}, apply={self.apply_to!r}, batch_reduction={self.batch_reduction!r}"


def _voltage(post: nn.Module, sequence_mode: bool) -> Tensor:
    name = "v_seq" if sequence_mode else "v"
    for module in post.modules():
        v = getattr(module, name, None)
        if isinstance(v, Tensor):
            return v
    hint = "; construct the neuron with store_v_seq=True" if sequence_mode else ""
    raise ValueError(f"the rule works on voltage but {type(post).__name__} has no tensor {name!r}{hint}")
