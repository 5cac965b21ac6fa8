"""Reading the folder: where photos come from, and what is said when the folder is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deskterior.photos import decode
from training import dataset
from training.dataset import DatasetError


def test_sources_are_those_of_the_csv(folder: Path) -> None:
    found = dataset.load(folder)
    assert len(found) == 20
    assert found.labels.sum() == 10
    assert set(found.sources) == {f"{label}-{number}" for label in ("desk", "not_desk") for number in range(4)}
    assert set(found.families) == {"web"}


def test_without_a_csv_each_photo_is_its_own_source_and_val_may_be_missing(folder: Path) -> None:
    (folder / "SOURCES.csv").unlink()
    for path in (folder / "val").glob("*/*"):
        path.unlink()
    found = dataset.load(folder)
    assert len(set(found.sources)) == len(found) == 16


def test_photos_are_decoded_as_serving_decodes_them(folder: Path) -> None:
    found = dataset.load(folder)
    pixels = found.pixels(224)
    assert pixels.shape == (20, 224, 224, 3)
    assert np.array_equal(pixels[3], decode((folder / found.photos[3].file).read_bytes()))


def test_an_unreadable_photo_is_named(folder: Path) -> None:
    (folder / "train/desk/web_0002.jpg").write_bytes(b"not a photo")
    with pytest.raises(DatasetError, match=r"train/desk/web_0002\.jpg"):
        dataset.load(folder).pixels(32)


def test_a_missing_folder_and_an_empty_class_say_what_to_mend(folder: Path) -> None:
    with pytest.raises(DatasetError, match="train/desk"):
        dataset.load(folder / "nowhere")
    for path in (folder / "train/not_desk").glob("*"):
        path.unlink()
    with pytest.raises(DatasetError, match="not_desk holds no photo"):
        dataset.load(folder)


def test_a_csv_without_its_columns_is_refused(folder: Path) -> None:
    (folder / "SOURCES.csv").write_text("file,label\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="source_path, source_repo"):
        dataset.load(folder)


def test_the_digest_changes_with_a_pixel_and_with_a_label(folder: Path) -> None:
    before = dataset.load(folder).digest()
    assert dataset.load(folder).digest() == before
    Image.new("RGB", (9, 9)).save(folder / "train/desk/web_0000.jpg")
    changed = dataset.load(folder).digest()
    assert changed != before
    (folder / "train/desk/web_0000.jpg").rename(folder / "train/not_desk/web_0100.jpg")
    assert dataset.load(folder).digest() not in {before, changed}


def test_grey_photos_are_told_from_colour() -> None:
    colour = np.zeros((8, 8, 3), dtype=np.uint8)
    colour[..., 0] = 90
    grey = np.full((8, 8, 3), 90, dtype=np.uint8)
    assert dataset.grey(np.stack([colour, grey])).tolist() == [False, True]
