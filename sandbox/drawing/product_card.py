"""A small picture of a product: a plain shape for its category on a coloured card, with its price."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

_SIDE = 300
_CARDS = ((238, 232, 222), (222, 232, 238), (232, 238, 224), (240, 226, 226))
_INKS = ((92, 72, 60), (52, 82, 112), (70, 98, 62), (140, 68, 62))
Box = tuple[int, int, int, int]
# Shapes by the start of the category's name, as rectangles (r) and ellipses (e) in a square of 300.
_SHAPES: dict[str, tuple[tuple[str, Box], ...]] = {
    "마우스": (("e", (105, 70, 195, 220)),),
    "키보드": (("r", (50, 110, 250, 180)),),
    "모니터": (("r", (60, 60, 240, 180)), ("r", (140, 180, 160, 210)), ("r", (110, 205, 190, 215))),
    "조명": (("e", (90, 50, 210, 130)), ("r", (144, 130, 156, 205)), ("r", (110, 200, 190, 214))),
    "책상": (("r", (50, 90, 250, 108)), ("r", (60, 108, 76, 215)), ("r", (224, 108, 240, 215))),
    "의자": (("r", (105, 50, 195, 140)), ("r", (95, 140, 205, 160)), ("r", (143, 160, 157, 215))),
    "화분": (("e", (95, 40, 205, 150)), ("r", (115, 150, 185, 215))),
    "스피커": (("r", (70, 70, 130, 210)), ("r", (170, 70, 230, 210))),
    "시계": (("e", (75, 60, 225, 210)),),
    "액자": (("r", (85, 55, 215, 215)),),
    "잔": (("r", (95, 80, 180, 205)), ("e", (165, 105, 220, 170))),
    "러그": (("e", (45, 90, 255, 200)),),
    "헤드셋": (("e", (70, 110, 120, 200)), ("e", (180, 110, 230, 200)), ("r", (90, 70, 210, 90))),
}
_OTHER: tuple[tuple[str, Box], ...] = (("r", (80, 80, 220, 205)),)


@lru_cache(maxsize=256)
def product_card(product_id: str, category: str, price: str) -> bytes:
    """A JPEG of 300 by 300."""
    shade = hashlib.sha256(product_id.encode()).digest()[0] % 4
    image = Image.new("RGB", (_SIDE, _SIDE), _CARDS[shade])
    pen = ImageDraw.Draw(image)
    for kind, box in next((s for name, s in _SHAPES.items() if category.startswith(name)), _OTHER):
        if kind == "e":
            pen.ellipse(box, fill=_INKS[shade])
        else:
            pen.rounded_rectangle(box, 6, fill=_INKS[shade])
    pen.text((150, 258), f"KRW {int(price):,}", fill=(40, 40, 44), anchor="mm", font=ImageFont.load_default(26))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()
