"""Views of a photo: the right shape, repeatable, and blind to what is greyscale in one class alone."""

import numpy as np
import pytest
from PIL import Image

from training import robustness
from training.augment import Augmentation, augment, screenshot
from training.dataset import Pixels

ALWAYS = Augmentation(quarter_turn=1.0, grey=0.0, tint=1.0, blur=1.0, noise=1.0, small=1.0, jpeg=1.0, screenshot=1.0)


@pytest.fixture
def photo() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (240, 240, 3), dtype=np.uint8)


@pytest.mark.parametrize("settings", [Augmentation(), ALWAYS], ids=["usual", "everything at once"])
def test_a_view_is_a_photo_again_and_the_same_for_the_same_seed(photo: Pixels, settings: Augmentation) -> None:
    for seed in range(5):
        view = augment(photo, 224, settings, np.random.default_rng(seed))
        assert view.shape == (224, 224, 3)
        assert view.dtype == np.uint8
        assert np.array_equal(view, augment(photo, 224, settings, np.random.default_rng(seed)))
    assert not np.array_equal(view, augment(photo, 224, settings, np.random.default_rng(99)))


def test_grey_views_have_no_colour(photo: Pixels) -> None:
    view = augment(photo, 64, Augmentation(grey=1.0, jpeg=0.0, screenshot=0.0), np.random.default_rng(0))
    assert int(view.max(axis=2).astype(int).max() - view.min(axis=2).max()) == 0
    assert np.array_equal(view[..., 0], view[..., 2])


def test_without_any_change_the_middle_of_a_photo_stays_where_it_is() -> None:
    photo = np.zeros((100, 100, 3), dtype=np.uint8)
    photo[40:60, 40:60] = 200
    still = Augmentation(
        crop_min_area=1.0,
        quarter_turn=0.0,
        angle=0.0,
        perspective=0.0,
        grey=0.0,
        exposure=0.0,
        white_balance=0.0,
        tint=0.0,
        blur=0.0,
        noise=0.0,
        small=0.0,
        jpeg=0.0,
        screenshot=0.0,
    )
    view = augment(photo, 100, still, np.random.default_rng(0))
    assert view[45:55, 45:55].mean() > 60
    assert view[:25].mean() < 20


def test_a_screenshot_shows_the_photo_across_its_width() -> None:
    photo = Image.new("RGB", (224, 224), (200, 30, 30))
    for seed in range(8):
        screen = np.asarray(screenshot(photo, np.random.default_rng(seed)))
        red = (screen == (200, 30, 30)).all(axis=2)
        assert 0.3 <= red.mean() <= 0.85
        assert red[112 - 30 : 112 + 30].all(axis=1).any()


@pytest.mark.parametrize("name", robustness.CHANGES)
def test_every_damage_keeps_the_shape_and_is_repeatable(photo: Pixels, name: str) -> None:
    photos = np.stack([photo[:224, :224], photo[16:, 16:]])
    change = robustness.CHANGES[name]
    damaged = robustness.changed(photos, change, seed=1)
    assert damaged.shape == photos.shape
    assert damaged.dtype == np.uint8
    assert np.array_equal(damaged, robustness.changed(photos, change, seed=1))
    assert np.array_equal(damaged, photos) == (name == "as taken")
