"""Pictures of spiking nets; needs matplotlib (``pip install snn-base[plot]``).

Every function returns the `Figure`, draws into ``ax`` where one is given, and keeps to the user's matplotlib style.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def raster(spikes: Tensor, *, dt: float | None = None, ax: "Axes | None" = None) -> "Figure":
    """Draw a spike raster: a dot for every nonzero entry of ``spikes [T, neurons]``.

    Args:
        spikes: ``[T, ...]``; all dims after the first are neurons.
        dt: milliseconds per step; ``None`` labels the axis in steps.
        ax: axes to draw into.

    Raises:
        ValueError: ``spikes`` has less than two dims.
        ImportError: matplotlib is not installed.
    """
    if spikes.dim() < 2:
        raise ValueError(f"raster: spikes must be [T, neurons], got shape {tuple(spikes.shape)}")
    figure, ax = _axes(ax)
    trains = spikes.detach().cpu().reshape(spikes.shape[0], -1)
    time, neuron = trains.nonzero(as_tuple=True)
    size = min(12.0, max(0.6, 900.0 / trains.shape[1]))
    ax.scatter(_times(time, dt), neuron.numpy(), s=size, marker="|", linewidths=1.0)
    ax.set_xlim(*_span(trains.shape[0], dt))
    ax.set_ylim(-0.5, trains.shape[1] - 0.5)
    ax.set_ylabel("neuron")
    ax.set_xlabel(_time_label(dt))
    return figure


def membrane(
    v: Tensor,
    spikes: Tensor | None = None,
    *,
    threshold: float | Tensor | None = None,
    neurons: Sequence[int] = (0, 1, 2),
    dt: float | None = None,
) -> "Figure":
    """Draw membrane potentials ``v [T, neurons]`` of some neurons, one axis each, with spikes and threshold.

    Args:
        v: ``[T, ...]``, in the unit of the threshold.
        spikes: ``[T, ...]``; ticks above the trace.
        threshold: one value, or ``[T, ...]`` for thresholds that move.
        neurons: indices into the flattened dims after the first; those past the last are left out.
        dt: milliseconds per step; ``None`` labels the axis in steps.

    Raises:
        ImportError: matplotlib is not installed.
    """
    plt = _pyplot()
    v = v.detach().cpu().reshape(v.shape[0], -1)
    chosen = [n for n in neurons if n < v.shape[1]]
    figure, axes = plt.subplots(
        len(chosen), 1, sharex=True, squeeze=False, layout="constrained", figsize=(5.2, 1.3 + 1.2 * len(chosen))
    )
    time = torch.arange(v.shape[0])
    for ax, n in zip(axes[:, 0], chosen, strict=True):
        ax.plot(_times(time, dt), v[:, n].numpy(), label="membrane")
        if isinstance(threshold, Tensor) and threshold.dim() > 0:
            moving = threshold.detach().cpu().reshape(threshold.shape[0], -1)
            ax.plot(
                _times(time, dt),
                moving[:, n % moving.shape[1]].numpy(),
                "--",
                color="gray",
                linewidth=1,
                label="threshold",
            )
        elif threshold is not None:
            ax.axhline(float(threshold), linestyle="--", color="gray", linewidth=1, label="threshold")
        if spikes is not None:
            fired = spikes.detach().cpu().reshape(spikes.shape[0], -1)[:, n].nonzero()[:, 0]
            for t in _times(fired, dt):
                ax.axvline(t, ymin=0.9, color="C3", linewidth=1.2)
            ax.plot([], [], "|", color="C3", markersize=8, label="spike")
        ax.set_ylabel(f"v of {n}")
    axes[-1, 0].set_xlim(*_span(v.shape[0], dt))
    axes[-1, 0].set_xlabel(_time_label(dt))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure  # type: ignore[no-any-return]


def rate_histogram(rates: Mapping[str, Tensor], *, ax: "Axes | None" = None) -> "Figure":
    """Draw histograms of the firing rates of the neurons of each layer.

    Args:
        rates: per layer the rates of its neurons in spikes per step, any shape.
        ax: axes to draw into.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax)
    top = max((float(r.max()) for r in rates.values() if r.numel()), default=1.0) or 1.0
    for name, values in rates.items():
        ax.hist(values.detach().cpu().flatten().numpy(), bins=30, range=(0.0, top), histtype="step", label=name)
    ax.set_xlabel("firing rate [spikes / step]")
    ax.set_ylabel("neurons")
    if rates:
        ax.legend(frameon=False)
    return figure


def filters(weight: Tensor, *, shape: tuple[int, int] | None = None, columns: int = 10) -> "Figure":
    """Draw weights as a grid of images, one per output, on one colour scale.

    Args:
        weight: ``[out, height, width]``, ``[out, in, height, width]`` (the mean over ``in`` is drawn) or ``[out, in]``
            with ``shape``.
        shape: height and width of one image, for ``[out, in]``.
        columns: images per row.

    Raises:
        ValueError: the weight cannot be seen as images.
        ImportError: matplotlib is not installed.
    """
    images = weight.detach().cpu().float()
    if images.dim() == 2 and shape is not None and shape[0] * shape[1] == images.shape[1]:
        images = images.reshape(-1, *shape)
    elif images.dim() == 4:
        images = images.mean(1)
    if images.dim() != 3:
        raise ValueError(f"filters: weight of shape {tuple(weight.shape)} with shape={shape} is no set of images")
    plt = _pyplot()
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, squeeze=False, layout="constrained", figsize=(0.5 * columns + 0.8, 0.52 * rows + 0.3)
    )
    drawn = None
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image in zip(axes.flat, images, strict=False):
        drawn = ax.imshow(image.numpy(), vmin=float(images.min()), vmax=float(images.max()), interpolation="nearest")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, label="weight", shrink=min(1.0, 2.5 / rows + 0.3))
    return figure  # type: ignore[no-any-return]


def accuracy_over_time(
    curves: Mapping[str, Mapping[int, float]], *, reference: float | None = None, ax: "Axes | None" = None
) -> "Figure":
    """Draw accuracy against the number of time steps.

    Args:
        curves: per label a mapping of steps to accuracy in [0, 1].
        reference: accuracy of the network that was converted, a dashed line.
        ax: axes to draw into.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax)
    ticks = sorted({t for curve in curves.values() for t in curve})
    for name, curve in curves.items():
        steps = sorted(curve)
        ax.plot(steps, [100 * curve[t] for t in steps], marker="o", label=name)
    if reference is not None:
        ax.axhline(100 * reference, linestyle="--", color="gray", linewidth=1, label="reference")
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("time steps T")
    ax.set_ylabel("accuracy [%]")
    ax.legend(frameon=False)
    return figure


def layer_errors(errors: Mapping[str, Mapping[str, float]], *, ax: "Axes | None" = None) -> "Figure":
    """Draw the error of each layer as a stacked bar of its parts.

    Args:
        errors: per layer a mapping of part (clipping, quantisation, ...) to relative error.
        ax: axes to draw into.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return stacked_bars(errors, xlabel="relative squared error", ax=ax)


def stacked_bars(values: Mapping[str, Mapping[str, float]], *, xlabel: str, ax: "Axes | None" = None) -> "Figure":
    """Draw a horizontal bar for each name, stacked of its parts.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax, height=1.2 + 0.28 * max(4, len(values)))
    names = list(values)
    left = [0.0] * len(names)
    for part in dict.fromkeys(p for parts in values.values() for p in parts):
        width = [values[name].get(part, 0.0) for name in names]
        ax.barh(names, width, left=left, label=part)
        left = [a + b for a, b in zip(left, width, strict=True)]
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.legend(frameon=False)
    return figure


def stdp_window(delta_t: Tensor, delta_w: Tensor, *, ax: "Axes | None" = None) -> "Figure":
    """Draw the weight change against the time from the presynaptic to the postsynaptic spike.

    Args:
        delta_t: ``t_post - t_pre`` in ms, ``[n]``.
        delta_w: weight change, ``[n]``.
        ax: axes to draw into.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax)
    ax.axhline(0.0, color="gray", linewidth=0.8)
    ax.axvline(0.0, color="gray", linewidth=0.8)
    ax.plot(delta_t.detach().cpu().numpy(), delta_w.detach().cpu().numpy(), marker=".")
    ax.set_xlabel("$t_{post} - t_{pre}$ [ms]")
    ax.set_ylabel("weight change")
    return figure


def confusion_matrix(counts: Tensor, labels: Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "Figure":
    """Draw a confusion matrix ``counts [true, predicted]`` with its numbers.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax, width=4.6, height=4.2)
    counts = counts.detach().cpu()
    names = [str(i) for i in range(len(counts))] if labels is None else list(labels)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    ax.imshow(share.numpy(), vmin=0.0, vmax=1.0, cmap="Blues")
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if count:
                color = "white" if share[i, j] > 0.5 else "black"
                ax.text(j, i, str(int(count)), ha="center", va="center", fontsize=8, color=color)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return figure


def learning_curve(history: Mapping[str, Sequence[float]], *, ylabel: str, ax: "Axes | None" = None) -> "Figure":
    """Draw values per epoch, one line for each name.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, ax = _axes(ax)
    for name, values in history.items():
        ax.plot(range(1, len(values) + 1), list(values), marker="o", markersize=3, label=name)
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False)
    return figure


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("snn_base.plot needs matplotlib: pip install snn-base[plot]") from error
    return pyplot


def _axes(ax: "Axes | None", width: float = 5.2, height: float = 3.2) -> tuple["Figure", "Axes"]:
    if ax is not None:
        return ax.get_figure(root=True), ax  # type: ignore[return-value]
    figure, new = _pyplot().subplots(figsize=(width, height), layout="constrained")
    return figure, new


def _times(steps: Tensor, dt: float | None) -> Any:
    return (steps if dt is None else steps * dt).numpy()


def _span(steps: int, dt: float | None) -> tuple[float, float]:
    unit = 1.0 if dt is None else dt
    return -0.5 * unit, (steps - 0.5) * unit


def _time_label(dt: float | None) -> str:
    return "time [steps]" if dt is None else "time [ms]"
