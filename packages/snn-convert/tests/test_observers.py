"""Observers: independent of order, mergeable, any number of dims."""

from collections.abc import Callable

import pytest
import torch

from snn_convert import EMAObserver, MaxObserver, MSEObserver, Observer, PercentileObserver

MAKERS = [MaxObserver, PercentileObserver, MSEObserver]


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
