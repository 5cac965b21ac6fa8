"""A folder of generated pictures, laid out as training wants it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import settings
from training.settings import Settings

SMALL = {
    "backbone": "test_efficientnet",
    "folds": 2,
    "threads": 1,
    "views.desk": 2,
    "views.not_desk": 1,
    "views.decode_size": 240,
    "views.probe": 1,
    "fit.frozen_stages": 1,
    "fit.epochs": 1,
    "fit.photos_per_epoch": 16,
    "fit.batch": 8,
}


@pytest.fixture
def small() -> Settings:
    """Settings that train in seconds."""
    return settings.load(overrides=SMALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten bright "desks" by four people and ten dark others by four more, some of them in ``val``."""
    random = np.random.default_rng(0)
    lines = ["file,label,split,source_repo,source_path,licence"]
    for label, light in (("desk", 120), ("not_desk", 0)):
        for number in range(10):
            split = "val" if number > 7 else "train"
            file = f"{split}/{label}/web_{number:04}.jpg"
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 120, (60, 80, 3), dtype=np.uint8) + np.uint8(light)
            Image.fromarray(pixels).save(tmp_path / file)
            lines.append(f"{file},{label},{split},{label}-{number % 4},{number}.jpg,unstated")
    (tmp_path / "SOURCES.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path
