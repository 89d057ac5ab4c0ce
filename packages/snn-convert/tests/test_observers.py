"""Observers: independent of order, mergeable, any number of dims."""

import itertools
from collections.abc import Callable

import pytest
import torch

from snn_convert import (
    BalancingObserver,
    BatchPercentileObserver,
    EMAObserver,
    MaxObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    ScaledMaxObserver,
)

MAKERS = [MaxObserver, PercentileObserver, MSEObserver, BatchPercentileObserver, EMAObserver]


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(5, 3, 4, generator=generator) * scale for scale in (1.0, 3.0, 0.5, 2.0)]


def seen(make: Callable[[], Observer], data: list[torch.Tensor]) -> Observer:
    observer = make()
    for a in data:
        observer.update(a)
    return observer


@pytest.mark.parametrize("make", MAKERS)
def test_order_of_batches_and_of_workers_does_not_matter(make: Callable[[], Observer]) -> None:
    data = batches()
    expected = seen(make, data).threshold(8)
    torch.testing.assert_close(seen(make, data[::-1]).threshold(8), expected)
    one = seen(make, data[:1])
    one.merge(seen(make, data[1:]))
    torch.testing.assert_close(one.threshold(8), expected)


@pytest.mark.parametrize("dims", [(), (4,), (4, 2), (2, 2, 2)])
def test_channels_are_the_second_dim_of_any_shape(dims: tuple[int, ...]) -> None:
    scale = torch.tensor([1.0, 2.0, 4.0])
    observer = MaxObserver(per_channel=True)
    observer.update(torch.ones(2, 3, *dims) * scale.view(3, *([1] * len(dims))))
    torch.testing.assert_close(observer.threshold(8), scale)


def test_percentile_of_a_tiny_tensor_is_its_maximum() -> None:
    observer = PercentileObserver(0.999)
    observer.update(torch.tensor([[0.1, 0.5, 2.0]]))
    torch.testing.assert_close(observer.threshold(8), torch.tensor([2.0]), rtol=0.02, atol=0.0)


def test_an_observer_without_data_says_so() -> None:
    with pytest.raises(RuntimeError, match="no data"):
        MSEObserver().threshold(8)


def test_observers_of_other_settings_do_not_merge() -> None:
    with pytest.raises(TypeError, match="merged"):
        MaxObserver().merge(MaxObserver(per_channel=True))


def test_the_moving_average_depends_on_order_and_refuses_to_merge() -> None:
    observer = EMAObserver(0.5)
    observer.update(torch.full((2, 3), 1.0))
    observer.update(torch.full((2, 3), 3.0))
    torch.testing.assert_close(observer.threshold(8), torch.tensor([2.0]))
    with pytest.raises(TypeError, match="order of batches"):
        observer.merge(EMAObserver(0.5))


def test_the_mean_of_batch_maxima_merges_and_has_no_order() -> None:
    data = batches()
    expected = torch.stack([a.max() for a in data]).mean().view(1)
    torch.testing.assert_close(seen(EMAObserver, data).threshold(8), expected)
    torch.testing.assert_close(seen(EMAObserver, data[::-1]).threshold(8), expected)
    one = seen(EMAObserver, data[:1])
    one.merge(seen(EMAObserver, data[1:]))
    torch.testing.assert_close(one.threshold(8), expected)


def test_the_mean_is_the_moving_average_over_all_orders() -> None:
    data = batches()
    orders = [seen(lambda: EMAObserver(0.3), list(p)).threshold(8) for p in itertools.permutations(data)]
    torch.testing.assert_close(torch.stack(orders).mean(0), seen(EMAObserver, data).threshold(8))


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99, 1.0])
def test_percentiles_of_batches_are_those_of_torch(p: float) -> None:
    observer = EMAObserver(per_channel=True, p=p, scale=0.5)
    a = batches()[0]
    observer.update(a)
    torch.testing.assert_close(observer.threshold(8), 0.5 * a.transpose(0, 1).flatten(1).quantile(p, dim=1))


def test_the_largest_percentile_of_batches() -> None:
    data = batches()
    layer = max(a.flatten().sort().values[int(0.9 * a.numel()) - 1] for a in data)
    found = seen(lambda: BatchPercentileObserver(0.9), data)
    torch.testing.assert_close(found.threshold(8), layer.view(1))
    rows = [a.transpose(0, 1).flatten(1) for a in data]
    channel = torch.stack([r.quantile(0.9, dim=1, interpolation="lower") for r in rows]).amax(0)
    found = seen(lambda: BatchPercentileObserver(0.9, per_channel=True), data)
    torch.testing.assert_close(found.threshold(8), channel)
    one = seen(lambda: BatchPercentileObserver(0.9, per_channel=True), data[:3])
    one.merge(seen(lambda: BatchPercentileObserver(0.9, per_channel=True), data[3:]))
    torch.testing.assert_close(one.threshold(8), channel)


def test_balancing_follows_its_rule_and_clips_what_follows() -> None:
    observer, theta = BalancingObserver(0.5), torch.zeros(3)
    for a in batches():
        theta = theta + (a - theta.view(3, 1)).clamp(min=0).mean((0, 2))
        observer.update(a)
        torch.testing.assert_close(observer.pass_on(a), torch.minimum(a, theta.view(3, 1)))
    torch.testing.assert_close(observer.threshold(8), theta)
    with pytest.raises(TypeError, match="order of batches"):
        observer.merge(BalancingObserver(0.5))


@pytest.mark.parametrize("levels", [1, 2, 8, 64])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_least_squares_threshold_is_found(levels: int, per_channel: bool) -> None:
    """No threshold of a fine grid has an error much below that of the one found."""
    generator = torch.Generator().manual_seed(levels)
    a = torch.randn(4000, 3, generator=generator).clamp(min=0) * torch.tensor([0.3, 1.0, 5.0])
    observer = MSEObserver(per_channel)
    for part in a.split(1000):
        observer.update(part)
    found = observer.threshold(levels)
    columns = a if per_channel else a.reshape(-1, 1)

    def error(theta: torch.Tensor) -> torch.Tensor:
        rounded = (columns * levels / theta + 0.5).floor().clamp(0, levels) * theta / levels
        return (rounded - columns).square().mean(0)

    grid = torch.linspace(0.02, 1.0, 500)
    least = torch.stack([error(columns.amax(0) * share) for share in grid]).amin(0)
    assert (error(found) < 1.05 * least).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EMAObserver(0.0), "momentum"),
        (lambda: EMAObserver(p=1.5), "p"),
        (lambda: MaxObserver(scale=0.0), "scale"),
        (lambda: PercentileObserver(0.0), "p"),
        (lambda: BatchPercentileObserver(2.0), "p"),
        (lambda: BalancingObserver(0.0), "rate"),
    ],
)
def test_settings_out_of_range_are_named(make: Callable[[], Observer], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_scaled_maximum() -> None:
    observer = ScaledMaxObserver(0.5)
    observer.update(torch.tensor([[1.0, 4.0]]))
    torch.testing.assert_close(observer.threshold(8), torch.tensor([2.0]))


@pytest.mark.parametrize("p", [0.9, 0.999])
def test_percentile_of_many_is_right_to_a_per_cent(p: float) -> None:
    a = torch.rand(20000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 30.0])
    observer = PercentileObserver(p, per_channel=True)
    for part in a.split(3000):
        observer.update(part)
    torch.testing.assert_close(observer.threshold(8), a.quantile(p, dim=0), rtol=0.015, atol=0.0)
