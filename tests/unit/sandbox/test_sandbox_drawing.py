"""The sandbox's pictures: another picture than before, of the size and format asked for, the same every time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sandbox.drawing import picture
from sandbox.drawing.picture import Format, draw
from sandbox.drawing.product_card import product_card
from sandbox.drawing.scene import scene
from sandbox.drawing.styles import Style, detect, restyle
from tests.photographs import encoded, exif

PHOTO = encoded(scene("a desk to start from"))


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.copy()


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, 0 to 255."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


@pytest.mark.parametrize("style", list(Style))
def test_each_style_changes_the_photo_visibly_and_keeps_what_is_on_it(style: Style) -> None:
    before = scene("a desk").resize((256, 256))
    after = restyle(before, style)
    assert after.size == before.size
    assert distance(before, after) > 6
    grey = [np.asarray(i.convert("L").resize((16, 16)), np.float32).ravel() for i in (before, after)]
    assert np.atleast_2d(np.corrcoef(grey))[0, 1] > 0.7


def test_no_two_styles_look_the_same() -> None:
    before = scene("a desk").resize((256, 256))
    drawn = [restyle(before, style) for style in Style]
    pairs = [(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :]]
    assert min(distance(a, b) for a, b in pairs) > 6


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 9)])
def test_the_smallest_pictures_are_restyled_too(style: Style, size: tuple[int, int]) -> None:
    assert restyle(Image.new("RGB", size, "teal"), style).size == size


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("Make over this desk as a cartoon with simple shapes", Style.CARTOON),
        ("an oil painting, clean and simple, in simple colours", Style.OIL),
        ("drawn in MS Paint", Style.MSPAINT),
        ("그림판으로 그린 책상", Style.MSPAINT),
        ("a minimal desk", Style.SIMPLE),
        ("Basic: a lifelike photograph, simple and tidy", Style.BASIC),
        ("Style.\n\nPaint: the same desk, no oil", Style.MSPAINT),
        ("a desk on soiled ground, boiled eggs", Style.BASIC),
        ("", Style.BASIC),
    ],
)
def test_the_style_is_found_in_the_words(prompt: str, style: Style) -> None:
    assert detect(prompt) is style


@pytest.mark.parametrize(("output", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("size", [(256, 384), (384, 256)])
def test_size_and_format_are_as_asked(output: Format, kind: str, size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(draw("cartoon", PHOTO, size, output))) as image:
        assert (image.format, image.size) == (kind, size)


def test_the_same_call_gives_the_same_bytes_also_when_drawn_afresh() -> None:
    first = draw("oil painting", PHOTO, (256, 256), "png")
    picture._drawn.clear()
    assert draw("oil painting", PHOTO, (256, 256), "png") == first


def test_without_a_photo_another_prompt_is_another_scene() -> None:
    scenes = {draw(f"desk {i}", None, (128, 128), "png") for i in range(6)}
    assert len(scenes) > 3


def test_only_the_transparent_parts_of_a_mask_change() -> None:
    mask = Image.new("RGBA", (1024, 1024), "black")
    mask.paste((0, 0, 0, 0), (512, 0, 1024, 1024))
    plain = opened(encoded(opened(PHOTO), "PNG"))
    after = opened(draw("cartoon", encoded(plain, "PNG"), (1024, 1024), "png", mask=encoded(mask, "PNG")))
    left, right = (0, 0, 500, 1024), (524, 0, 1024, 1024)
    assert distance(after.crop(left), plain.crop(left)) == 0
    assert distance(after.crop(right), plain.crop(right)) > 6


def test_a_transparent_background_has_clear_corners() -> None:
    image = opened(draw("cartoon", PHOTO, (256, 256), "png", transparent=True))
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert image.getpixel((128, 128))[3] == 255  # type: ignore[index]


def test_a_photo_is_turned_upright_and_laid_on_white_before_it_is_drawn() -> None:
    wide = Image.new("RGB", (200, 100), "black")
    wide.paste("white", (0, 0, 200, 50))
    turned = opened(draw("", encoded(wide, exif=exif(3)), (200, 112), "png"))
    assert sum(turned.convert("RGB").getpixel((100, 100))) > sum(turned.convert("RGB").getpixel((100, 10)))  # type: ignore[arg-type]
    clear = opened(draw("minimal", encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG"), (64, 64), "png"))
    assert min(clear.convert("RGB").getpixel((32, 32))) > 200  # type: ignore[arg-type]


def test_a_product_card_is_a_small_jpeg_of_its_own() -> None:
    mouse, desk = product_card("1", "마우스", "21990"), product_card("2", "책상", "0")
    assert mouse != desk
    assert opened(mouse).size == (300, 300)
