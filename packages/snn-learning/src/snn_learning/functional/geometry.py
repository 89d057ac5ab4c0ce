"""How the neurons of two layers are joined: which products of post- and presynaptic factors meet at a weight."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as nnf

Factor = Tensor | float
_PART_NUMBERS = 2**21


class Geometry(Protocol):
    """What an update needs to know about a synapse.

    Factors are sequences: ``post`` ``[T, N, *post]``, ``pre`` ``[T, N, *pre]`` or a float for a constant that every
    synapse sees.
    """

    def outer(self, post: Tensor, pre: Factor) -> Tensor:
        """Sum ``post * pre`` at every weight over time, batch and positions; shape of the weight."""
        ...

    def outer_per_sample(self, post: Tensor, pre: Factor) -> Tensor:
        """The same, not summed over the batch: ``[N, *weight]``."""
        ...

    def check(self, pre: Tensor, post: Tensor, w: Tensor) -> None:
        """Raise ``ValueError`` unless the sequences fit each other and the weight."""
        ...


def check_steps(pre: Tensor, post: Tensor) -> None:
    """Raise unless both are sequences ``[T, N, ...]`` of equal length and batch.

    Raises:
        ValueError: they are not.
    """
    if pre.dim() < 3 or post.dim() < 3 or pre.shape[:2] != post.shape[:2]:
        raise ValueError(
            "pre- and postsynaptic activity must be [T, N, ...] with equal T and N, "
            f"got {tuple(pre.shape)} and {tuple(post.shape)}"
        )


@dataclass(frozen=True)
class LinearGeometry:
    """Full connection, weight ``[N_post, N_pre]``; activities are ``[T, N, ..., features]``."""

    def outer(self, post: Tensor, pre: Factor) -> Tensor:
        post = post.flatten(0, -2)
        if not isinstance(pre, Tensor):
            return pre * post.sum(0).unsqueeze(1)
        return post.t() @ pre.flatten(0, -2)

    def outer_per_sample(self, post: Tensor, pre: Factor) -> Tensor:
        post = post.transpose(0, 1).flatten(1, -2)
        if not isinstance(pre, Tensor):
            return pre * post.sum(1).unsqueeze(2)
        return post.transpose(1, 2) @ pre.transpose(0, 1).flatten(1, -2)

    def check(self, pre: Tensor, post: Tensor, w: Tensor) -> None:
        check_steps(pre, post)
        if w.dim() != 2:
            raise ValueError(f"a linear synapse needs a weight [N_post, N_pre], got {tuple(w.shape)}")
        if pre.shape[-1] != w.shape[1] or post.shape[-1] != w.shape[0] or pre.shape[:-1] != post.shape[:-1]:
            raise ValueError(
                f"presynaptic {tuple(pre.shape)} and postsynaptic {tuple(post.shape)} activity do not fit the weight "
                f"{tuple(w.shape)} = [N_post, N_pre]"
            )


@dataclass(frozen=True)
class ConvGeometry:
    """Convolution in 1, 2 or 3 dimensions, weight ``[C_out, C_in / groups, *kernel]``.

    The sum over time, batch and positions is the weight gradient of the convolution, with the postsynaptic factor in
    the place of the output's gradient. Padded places never spike; a constant presynaptic factor counts there too.

    Args:
        weight_shape: shape of the weight.
        stride, padding, dilation: one number per dimension.
        groups: groups of channels.
    """

    weight_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def outer(self, post: Tensor, pre: Factor) -> Tensor:
        post = post.flatten(0, 1)
        if not isinstance(pre, Tensor):
            total = pre * post.sum([0, *range(2, post.dim())])
            return total.view(-1, *([1] * (len(self.weight_shape) - 1)))
        return self._weight_gradient(post, pre.flatten(0, 1))

    def outer_per_sample(self, post: Tensor, pre: Factor) -> Tensor:
        samples = range(post.shape[1])
        if not isinstance(pre, Tensor):
            return torch.stack([self.outer(post[:, n : n + 1], pre) for n in samples])
        return torch.stack([self.outer(post[:, n : n + 1], pre[:, n : n + 1]) for n in samples])

    def _weight_gradient(self, post: Tensor, pre: Tensor) -> Tensor:
        if len(self.stride) != 2 or post.device.type != "cpu":
            return self._gradient_of_part(post, pre)
        # CPU kernels are about twice as fast with channels last; parts that fit the cache make the reordering cheap.
        part = max(1, _PART_NUMBERS // max(post[:1].numel() + pre[:1].numel(), 1))
        total: Tensor | None = None
        for i in range(0, post.shape[0], part):
            pair = (x[i : i + part].contiguous(memory_format=torch.channels_last) for x in (post, pre))
            gradient = self._gradient_of_part(*pair)
            total = gradient if total is None else total + gradient
        return post.new_zeros(self.weight_shape) if total is None else total.contiguous()

    def _gradient_of_part(self, post: Tensor, pre: Tensor) -> Tensor:
        weight = post.new_empty(1).expand(self.weight_shape)
        zeros = (0,) * len(self.stride)
        out = torch.ops.aten.convolution_backward(
            post, pre, weight, None, self.stride, self.padding, self.dilation, False, zeros, self.groups,
            (False, True, False),
        )  # fmt: skip
        gradient: Tensor = out[1]
        return gradient

    def check(self, pre: Tensor, post: Tensor, w: Tensor) -> None:
        check_steps(pre, post)
        dims = len(self.stride)
        if tuple(w.shape) != self.weight_shape:
            raise ValueError(f"the weight has shape {tuple(w.shape)}, the geometry was made for {self.weight_shape}")
        if pre.dim() != dims + 3 or post.dim() != dims + 3:
            raise ValueError(
                f"a Conv{dims}d synapse needs activities [T, N, C, {dims} spatial dims], "
                f"got {tuple(pre.shape)} and {tuple(post.shape)}"
            )
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                pre.shape[3:], self.padding, self.dilation, self.weight_shape[2:], self.stride, strict=True
            )
        )
        channels = self.weight_shape[1] * self.groups
        if pre.shape[2] != channels or tuple(post.shape[2:]) != (self.weight_shape[0], *size):
            raise ValueError(
                f"a convolution of weight {self.weight_shape} (stride {self.stride}, padding {self.padding}, dilation "
                f"{self.dilation}, groups {self.groups}) needs presynaptic [T, N, {channels}, ...], here with "
                f"postsynaptic [T, N, {self.weight_shape[0]}, {', '.join(map(str, size))}]; "
                f"got {tuple(pre.shape)} and {tuple(post.shape)}"
            )


def conv_padding(pre: Tensor, reversed_padding: list[int], mode: str) -> Tensor:
    """Pad the last dims of ``[T, N, C, ...]`` as `torch.nn` convolutions do for a padding mode other than zeros."""
    padded = nnf.pad(pre.flatten(0, 1), reversed_padding, mode="constant" if mode == "zeros" else mode)
    return padded.reshape(*pre.shape[:2], *padded.shape[1:])
