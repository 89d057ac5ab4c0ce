# ruff: noqa: F401
"""Signatures of the step-mode layers; written by scripts/make_stub.py."""

from typing import Any, Literal, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn.common_types import (
    _ratio_2_t,
    _ratio_3_t,
    _ratio_any_t,
    _size_1_t,
    _size_2_t,
    _size_3_t,
    _size_4_t,
    _size_6_t,
    _size_any_opt_t,
    _size_any_t,
)
from torch.nn.modules.normalization import _shape_t
from torch.types import _size

from snn_base import StepModule

StepMode = Literal["s", "m"]

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Embedding",
    "Flatten",
    "Fold",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "GroupNorm",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Linear",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "RMSNorm",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "SyncBatchNorm",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

class Conv1d(nn.Conv1d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_1_t,
        stride: _size_1_t = ...,
        padding: str | _size_1_t = ...,
        dilation: _size_1_t = ...,
        groups: int = ...,
        bias: bool = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Conv2d(nn.Conv2d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_2_t,
        stride: _size_2_t = ...,
        padding: str | _size_2_t = ...,
        dilation: _size_2_t = ...,
        groups: int = ...,
        bias: bool = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Conv3d(nn.Conv3d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_3_t,
        stride: _size_3_t = ...,
        padding: str | _size_3_t = ...,
        dilation: _size_3_t = ...,
        groups: int = ...,
        bias: bool = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class ConvTranspose1d(nn.ConvTranspose1d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_1_t,
        stride: _size_1_t = ...,
        padding: _size_1_t = ...,
        output_padding: _size_1_t = ...,
        groups: int = ...,
        bias: bool = ...,
        dilation: _size_1_t = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class ConvTranspose2d(nn.ConvTranspose2d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_2_t,
        stride: _size_2_t = ...,
        padding: _size_2_t = ...,
        output_padding: _size_2_t = ...,
        groups: int = ...,
        bias: bool = ...,
        dilation: _size_2_t = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class ConvTranspose3d(nn.ConvTranspose3d, StepModule):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_3_t,
        stride: _size_3_t = ...,
        padding: _size_3_t = ...,
        output_padding: _size_3_t = ...,
        groups: int = ...,
        bias: bool = ...,
        dilation: _size_3_t = ...,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class BatchNorm1d(nn.BatchNorm1d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float | None = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class BatchNorm2d(nn.BatchNorm2d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float | None = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class BatchNorm3d(nn.BatchNorm3d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float | None = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class InstanceNorm1d(nn.InstanceNorm1d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class InstanceNorm2d(nn.InstanceNorm2d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class InstanceNorm3d(nn.InstanceNorm3d, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxPool1d(nn.MaxPool1d, StepModule):
    def __init__(
        self,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        padding: _size_any_t = ...,
        dilation: _size_any_t = ...,
        return_indices: bool = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxPool2d(nn.MaxPool2d, StepModule):
    def __init__(
        self,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        padding: _size_any_t = ...,
        dilation: _size_any_t = ...,
        return_indices: bool = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxPool3d(nn.MaxPool3d, StepModule):
    def __init__(
        self,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        padding: _size_any_t = ...,
        dilation: _size_any_t = ...,
        return_indices: bool = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class AvgPool1d(nn.AvgPool1d, StepModule):
    def __init__(
        self,
        kernel_size: _size_1_t,
        stride: _size_1_t = ...,
        padding: _size_1_t = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class AvgPool2d(nn.AvgPool2d, StepModule):
    def __init__(
        self,
        kernel_size: _size_2_t,
        stride: _size_2_t | None = ...,
        padding: _size_2_t = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        divisor_override: int | None = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class AvgPool3d(nn.AvgPool3d, StepModule):
    def __init__(
        self,
        kernel_size: _size_3_t,
        stride: _size_3_t | None = ...,
        padding: _size_3_t = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        divisor_override: int | None = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class AdaptiveAvgPool1d(nn.AdaptiveAvgPool1d, StepModule):
    def __init__(self, output_size: _size_any_opt_t, *, step_mode: StepMode = ...) -> None: ...

class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d, StepModule):
    def __init__(self, output_size: _size_any_opt_t, *, step_mode: StepMode = ...) -> None: ...

class AdaptiveAvgPool3d(nn.AdaptiveAvgPool3d, StepModule):
    def __init__(self, output_size: _size_any_opt_t, *, step_mode: StepMode = ...) -> None: ...

class AdaptiveMaxPool1d(nn.AdaptiveMaxPool1d, StepModule):
    def __init__(
        self, output_size: _size_any_opt_t, return_indices: bool = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d, StepModule):
    def __init__(
        self, output_size: _size_any_opt_t, return_indices: bool = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class AdaptiveMaxPool3d(nn.AdaptiveMaxPool3d, StepModule):
    def __init__(
        self, output_size: _size_any_opt_t, return_indices: bool = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class LPPool1d(nn.LPPool1d, StepModule):
    def __init__(
        self,
        norm_type: float,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class LPPool2d(nn.LPPool2d, StepModule):
    def __init__(
        self,
        norm_type: float,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class LPPool3d(nn.LPPool3d, StepModule):
    def __init__(
        self,
        norm_type: float,
        kernel_size: _size_any_t,
        stride: _size_any_t | None = ...,
        ceil_mode: bool = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxUnpool1d(nn.MaxUnpool1d, StepModule):  # type: ignore[misc]
    def __init__(
        self,
        kernel_size: _size_1_t,
        stride: _size_1_t | None = ...,
        padding: _size_1_t = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxUnpool2d(nn.MaxUnpool2d, StepModule):  # type: ignore[misc]
    def __init__(
        self,
        kernel_size: _size_2_t,
        stride: _size_2_t | None = ...,
        padding: _size_2_t = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class MaxUnpool3d(nn.MaxUnpool3d, StepModule):  # type: ignore[misc]
    def __init__(
        self,
        kernel_size: _size_3_t,
        stride: _size_3_t | None = ...,
        padding: _size_3_t = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class ZeroPad1d(nn.ZeroPad1d, StepModule):
    def __init__(self, padding: _size_2_t, *, step_mode: StepMode = ...) -> None: ...

class ZeroPad2d(nn.ZeroPad2d, StepModule):
    def __init__(self, padding: _size_4_t, *, step_mode: StepMode = ...) -> None: ...

class ZeroPad3d(nn.ZeroPad3d, StepModule):
    def __init__(self, padding: _size_6_t, *, step_mode: StepMode = ...) -> None: ...

class ConstantPad1d(nn.ConstantPad1d, StepModule):
    def __init__(self, padding: _size_2_t, value: float, *, step_mode: StepMode = ...) -> None: ...

class ConstantPad2d(nn.ConstantPad2d, StepModule):
    def __init__(self, padding: _size_4_t, value: float, *, step_mode: StepMode = ...) -> None: ...

class ConstantPad3d(nn.ConstantPad3d, StepModule):
    def __init__(self, padding: _size_6_t, value: float, *, step_mode: StepMode = ...) -> None: ...

class ReflectionPad1d(nn.ReflectionPad1d, StepModule):
    def __init__(self, padding: _size_2_t, *, step_mode: StepMode = ...) -> None: ...

class ReflectionPad2d(nn.ReflectionPad2d, StepModule):
    def __init__(self, padding: _size_4_t, *, step_mode: StepMode = ...) -> None: ...

class ReflectionPad3d(nn.ReflectionPad3d, StepModule):
    def __init__(self, padding: _size_6_t, *, step_mode: StepMode = ...) -> None: ...

class ReplicationPad1d(nn.ReplicationPad1d, StepModule):
    def __init__(self, padding: _size_2_t, *, step_mode: StepMode = ...) -> None: ...

class ReplicationPad2d(nn.ReplicationPad2d, StepModule):
    def __init__(self, padding: _size_4_t, *, step_mode: StepMode = ...) -> None: ...

class ReplicationPad3d(nn.ReplicationPad3d, StepModule):
    def __init__(self, padding: _size_6_t, *, step_mode: StepMode = ...) -> None: ...

class CircularPad1d(nn.CircularPad1d, StepModule):
    def __init__(self, padding: _size_2_t, *, step_mode: StepMode = ...) -> None: ...

class CircularPad2d(nn.CircularPad2d, StepModule):
    def __init__(self, padding: _size_4_t, *, step_mode: StepMode = ...) -> None: ...

class CircularPad3d(nn.CircularPad3d, StepModule):
    def __init__(self, padding: _size_6_t, *, step_mode: StepMode = ...) -> None: ...

class Linear(nn.Linear, StepModule):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Bilinear(nn.Bilinear, StepModule):  # type: ignore[misc]
    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Identity(nn.Identity, StepModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Embedding(nn.Embedding, StepModule):
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = ...,
        max_norm: float | None = ...,
        norm_type: float = ...,
        scale_grad_by_freq: bool = ...,
        sparse: bool = ...,
        _weight: Tensor | None = ...,
        _freeze: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Flatten(nn.Flatten, StepModule):
    def __init__(self, start_dim: int = ..., end_dim: int = ..., *, step_mode: StepMode = ...) -> None: ...

class Unflatten(nn.Unflatten, StepModule):
    def __init__(self, dim: int, unflattened_size: _size, *, step_mode: StepMode = ...) -> None: ...

class Fold(nn.Fold, StepModule):
    def __init__(
        self,
        output_size: _size_any_t,
        kernel_size: _size_any_t,
        dilation: _size_any_t = ...,
        padding: _size_any_t = ...,
        stride: _size_any_t = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Unfold(nn.Unfold, StepModule):
    def __init__(
        self,
        kernel_size: _size_any_t,
        dilation: _size_any_t = ...,
        padding: _size_any_t = ...,
        stride: _size_any_t = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class SyncBatchNorm(nn.SyncBatchNorm, StepModule):
    def __init__(
        self,
        num_features: int,
        eps: float = ...,
        momentum: float | None = ...,
        affine: bool = ...,
        track_running_stats: bool = ...,
        process_group: Any | None = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class GroupNorm(nn.GroupNorm, StepModule):
    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = ...,
        affine: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        bias: bool = ...,
        step_mode: StepMode = ...,
    ) -> None: ...

class LocalResponseNorm(nn.LocalResponseNorm, StepModule):
    def __init__(
        self, size: int, alpha: float = ..., beta: float = ..., k: float = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class RMSNorm(nn.RMSNorm, StepModule):
    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float | None = ...,
        elementwise_affine: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class FractionalMaxPool2d(nn.FractionalMaxPool2d, StepModule):
    def __init__(
        self,
        kernel_size: _size_2_t,
        output_size: _size_2_t | None = ...,
        output_ratio: _ratio_2_t | None = ...,
        return_indices: bool = ...,
        _random_samples: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class FractionalMaxPool3d(nn.FractionalMaxPool3d, StepModule):
    def __init__(
        self,
        kernel_size: _size_3_t,
        output_size: _size_3_t | None = ...,
        output_ratio: _ratio_3_t | None = ...,
        return_indices: bool = ...,
        _random_samples: Any = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class Upsample(nn.Upsample, StepModule):
    def __init__(
        self,
        size: _size_any_t | None = ...,
        scale_factor: _ratio_any_t | None = ...,
        mode: str = ...,
        align_corners: bool | None = ...,
        recompute_scale_factor: bool | None = ...,
        *,
        step_mode: StepMode = ...,
    ) -> None: ...

class UpsamplingNearest2d(nn.UpsamplingNearest2d, StepModule):
    def __init__(
        self, size: _size_2_t | None = ..., scale_factor: _ratio_2_t | None = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class UpsamplingBilinear2d(nn.UpsamplingBilinear2d, StepModule):
    def __init__(
        self, size: _size_2_t | None = ..., scale_factor: _ratio_2_t | None = ..., *, step_mode: StepMode = ...
    ) -> None: ...

class PixelShuffle(nn.PixelShuffle, StepModule):
    def __init__(self, upscale_factor: int, *, step_mode: StepMode = ...) -> None: ...

class PixelUnshuffle(nn.PixelUnshuffle, StepModule):
    def __init__(self, downscale_factor: int, *, step_mode: StepMode = ...) -> None: ...

class ChannelShuffle(nn.ChannelShuffle, StepModule):
    def __init__(self, groups: int, *, step_mode: StepMode = ...) -> None: ...
