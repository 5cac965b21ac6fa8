"""The pictures that a LoRA learns from: which, with what words, and what is said of those that cannot be used."""

import os
from pathlib import Path

import pytest

from tests.photographs import BLUE, GREEN, RED, YELLOW, corners, encoded, exif, scene
from training.lora_photos import CAPTION_LETTERS, LoraError, find, square


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(encoded(scene(), quality=95))
    (tmp_path / "b.PNG").write_bytes(encoded(scene(64, 64), "PNG"))
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def test_a_text_beside_a_picture_is_its_caption_and_the_others_have_the_default(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf  oil painting\r\n of a desk \n")
    assert [(item.path.name, item.caption) for item in find(folder, "a desk").items] == [
        ("a.jpg", "oil painting of a desk"),
        ("b.PNG", "a desk"),
    ]


def test_the_digest_changes_with_a_picture_or_a_caption_and_with_nothing_else(folder: Path) -> None:
    before = find(folder, "a desk").digest
    (folder / "notes.md").unlink()
    assert find(folder, "a desk").digest == before
    assert find(folder, "an oak desk").digest != before
    (folder / "b.PNG").write_bytes(encoded(scene(96, 64), "PNG"))
    assert find(folder, "a desk").digest != before


def test_the_middle_of_the_picture_is_learnt_from_upright(tmp_path: Path) -> None:
    turned = scene(120, 240)  # a camera held upright: stored lying on its side
    (tmp_path / "a.jpg").write_bytes(encoded(turned, quality=95, exif=exif(6)))
    pixels = square(find(tmp_path, "").items[0], 64)
    assert pixels.shape == (64, 64, 3)
    for seen, wanted in zip(corners(pixels), (BLUE, RED, YELLOW, GREEN), strict=True):
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) < 12


def test_a_picture_smaller_than_the_resolution_is_scaled_up(folder: Path) -> None:
    assert square(find(folder, "").items[1], 128).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("c.jpg", b"", "c.jpg: The photo is empty"),
        ("c.jpg", b"<html>", "c.jpg: The content is a web page"),
        ("c.png", b"GIF89a" + bytes(64), "c.png: The content is GIF"),
        ("c.jpg", encoded(scene(1000, 100)), "crop it to at most 4 to 1"),
    ],
)
def test_a_file_that_is_no_picture_for_this_is_named_before_anything_is_learnt(
    folder: Path, name: str, data: bytes, said: str
) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(LoraError, match=said):
        find(folder, "")


def test_all_that_cannot_be_used_is_named_at_once_and_what_macos_leaves_is_not(folder: Path) -> None:
    (folder / "._a.jpg").write_bytes(b"\0\5\x16\7" + bytes(64))
    assert len(find(folder, "").items) == 2
    for number in range(12):
        (folder / f"책상{number:02}.jpg").write_bytes(b"")
    with pytest.raises(LoraError, match=r"책상00\.jpg: .*; 책상09\.jpg: [^;]*; and 2 more$"):
        find(folder, "")


def test_a_name_that_is_no_utf_8_is_a_name(folder: Path) -> None:
    (folder / "a.jpg").rename(os.fsdecode(os.fsencode(folder) + b"/\xc7\xd1.jpg"))  # Korean, by an old ZIP
    pictures = find(folder, "")
    assert len(pictures.items) == 2
    assert pictures.digest.startswith("sha256:")


def test_a_picture_that_is_cut_short_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    whole = encoded(scene())
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoraError, match=r"cut\.jpg: The photo is damaged"):
        square(find(tmp_path, "").items[0], 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"oil " * CAPTION_LETTERS, "over 1000 characters"),
        ("책상".encode() * CAPTION_LETTERS, "over 1000 characters"),
        (b"a" * (CAPTION_LETTERS + 1), "over 1000 characters"),
        (b" \n", "is empty"),
        ("유화".encode("euc-kr"), "not text in UTF-8"),
    ],
)
def test_a_text_that_is_no_caption_is_named(folder: Path, text: bytes, said: str) -> None:
    (folder / "a.txt").write_bytes(text)
    with pytest.raises(LoraError, match=rf"a\.txt .*{said}|a\.txt is {said}"):
        find(folder, "")


def test_a_folder_without_pictures_or_none_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a.jpg").write_bytes(encoded(scene()))
    with pytest.raises(LoraError, match="holds no pictures"):
        find(tmp_path, "")
    with pytest.raises(LoraError, match="there is no folder"):
        find(tmp_path / "none", "")
