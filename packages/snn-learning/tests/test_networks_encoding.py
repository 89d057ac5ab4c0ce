"""Images as spikes."""

import math

import pytest
import torch

from snn_learning.networks import RetinaEncoder, image_intensities

IMAGES = torch.rand(5, 9, 7, generator=torch.Generator().manual_seed(0))


def test_every_image_has_the_same_energy() -> None:
    p = image_intensities(IMAGES * torch.tensor([0.1, 1.0, 5.0, 200.0, 1e-3]).view(-1, 1, 1), contrast=2.0)
    assert p.shape == (5, 63)
    torch.testing.assert_close(torch.linalg.vector_norm(p, dim=1), torch.full((5,), 2.0))
    torch.testing.assert_close(p, image_intensities(IMAGES, contrast=2.0))


def test_the_receptive_field_is_a_gaussian() -> None:
    point = torch.zeros(1, 21, 21, dtype=torch.float64)
    point[0, 10, 10] = 1.0
    p = image_intensities(point, sigma=1.5, contrast=0.1).view(21, 21)
    for dy, dx in ((0, 1), (1, 0), (2, 3), (-3, 1)):
        assert float(p[10 + dy, 10 + dx] / p[10, 10]) == pytest.approx(math.exp(-(dy**2 + dx**2) / (2 * 1.5**2)))


def test_no_width_leaves_the_image() -> None:
    p = image_intensities(IMAGES, sigma=0.0, contrast=0.5)
    flat = IMAGES.flatten(1)
    torch.testing.assert_close(p, 0.5 * flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True))


def test_black_images_stay_silent_and_strong_ones_are_limited() -> None:
    assert torch.equal(image_intensities(torch.zeros(2, 4, 4)), torch.zeros(2, 16))
    assert image_intensities(IMAGES, contrast=1e6).max() == 1.0


def test_spikes_have_the_rates_of_the_image() -> None:
    s = RetinaEncoder(4000, sigma=0.5, contrast=3.0, seed=1)(IMAGES)
    assert s.shape == (4000, 5, 63)
    assert set(s.unique().tolist()) == {0.0, 1.0}
    p = image_intensities(IMAGES, sigma=0.5, contrast=3.0)
    assert (s.mean(0) - p).abs().max() < 5 * math.sqrt(0.25 / 4000)


def test_bytes_are_images_too() -> None:
    as_bytes = (IMAGES * 255).to(torch.uint8)
    torch.testing.assert_close(image_intensities(as_bytes), image_intensities(as_bytes.float() / 255))


def test_the_generator_is_part_of_the_state() -> None:
    encoder = RetinaEncoder(3, seed=1)
    encoder(IMAGES)
    state = encoder.state_dict()
    expected = encoder(IMAGES)
    other = RetinaEncoder(3, seed=9)
    assert not torch.equal(other(IMAGES), expected)
    other.load_state_dict(state)
    assert torch.equal(other(IMAGES), expected)


@pytest.mark.parametrize(
    "bad", [torch.zeros(4, 4), -torch.ones(1, 2, 2), torch.full((1, 2, 2), math.nan), torch.full((1, 2, 2), math.inf)]
)
def test_what_is_no_image_is_refused(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="images"):
        image_intensities(bad)


@pytest.mark.parametrize("options", [{"sigma": -1.0}, {"contrast": 0.0}, {"contrast": math.inf}, {"steps": 0}])
def test_parameters_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RetinaEncoder(**options)  # type: ignore[arg-type]
