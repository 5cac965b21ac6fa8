"""All that reads text from outside, each as a function of bytes that returns, or raises what it found wrong with us.

Each parser takes anything, or refuses by a named error; what it takes keeps what its docstring promises. The tests feed
these with hypothesis, `fuzz/parsers.py` guided by coverage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress

from openai import AsyncOpenAI
from pydantic import ValidationError

from deskterior import callbacks, photo_parts, telemetry
from deskterior.config import Settings, SettingsError
from deskterior.decoding import photo_type
from deskterior.egress import PhotoHosts
from deskterior.errors import Forbidden, Invalid, NotFound, PhotoError, PhotoUrlForbidden, ProviderError
from deskterior.heic_parts import heic_cost
from deskterior.makeover import cursors
from deskterior.providers import models, naver, naver_items, openai_vision, outside_text
from deskterior.retry_after import retry_after_s
from deskterior.routers.generate import Preferences
from deskterior.schemas import ClassifyRequest, Concept, GenerateRequest
from deskterior.storage import keys, links
from runners import wire

Parser = Callable[[bytes], None]


def text(data: bytes) -> str:
    """Any text, also such as JSON can hold and UTF-8 cannot: halves of UTF-16 pairs."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


ANY_HOST = PhotoHosts([], development=True)


def photo_url(data: bytes) -> None:
    with suppress(PhotoUrlForbidden):
        checked = ANY_HOST.check(text(data))
        assert checked.scheme in {"http", "https"}
        assert checked.raw_host
        # What is asked is what was judged: read again, it names the same place.
        assert ANY_HOST.check(str(checked)).netloc == checked.netloc
        assert b"\r" not in checked.raw_path + checked.netloc
        assert b"\n" not in checked.raw_path + checked.netloc
        assert b" " not in checked.raw_path + checked.netloc


def photo_host_setting(data: bytes) -> None:
    with suppress(SettingsError):
        PhotoHosts([text(data)], development=True)


def settings(data: bytes) -> None:
    name, _, value = text(data).partition("=")
    with suppress(ValidationError):
        Settings.model_validate({name.strip().lower() or "env": value})


def prefer(data: bytes) -> None:
    found = Preferences.of(text(data).split("\n"))
    assert found.wait_s is None or 0 <= found.wait_s < math.inf


def request_id(data: bytes) -> None:
    made = telemetry.request_id(data.decode("latin-1"))
    assert made.isascii()
    assert made.isprintable()
    assert len(made) <= 200


def request_bodies(data: bytes) -> None:
    for model in (ClassifyRequest, GenerateRequest):
        with suppress(ValidationError):
            model.model_validate_json(data)


def naver_item(data: bytes) -> None:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raw = {"title": text(data), "link": text(data), "lprice": text(data), "image": text(data)}
    if item := naver_items.item_of(raw):
        assert item.product.price.isdigit()
        assert item.product.link.lower().startswith(("http://", "https://"))
        item.product.model_dump_json().encode()


def outside(data: bytes) -> None:
    for clean in (outside_text.one_line, outside_text.without_markup):
        line = clean(text(data), 80)
        assert len(line) <= 80
        assert line == " ".join(line.split())
        line.encode()
    outside_text.web_address(text(data))
    naver.distinct([text(data)])


class _Say:
    def describe(self, concept: Concept) -> tuple[str, str]:
        return "", concept


_MODEL = models.VisionEntry(name="any", input=1, cached_input=1, output=1)
_VISION = openai_vision.OpenAIVision(AsyncOpenAI(api_key="none"), _MODEL, _Say(), timeout_s=1)


def openai_answer(data: bytes) -> None:
    content = json.dumps({"choices": [{"message": {"content": text(data)}}]})
    for body in (text(data), content):
        with suppress(ProviderError):
            _VISION._read(body)


def wire_headers(data: bytes) -> None:
    shape, _, rest = data.decode("latin-1").partition("\n")
    dtype, _, body = rest.partition("\n")
    with suppress(Invalid):
        array = wire.to_array(body.encode("latin-1"), wire.read_shape(shape), wire.read_dtype(dtype))
        assert array.nbytes == len(body)


def file_links(data: bytes) -> None:
    made = links.Links(b"s" * 32, trust_host=True)
    assert made.key_of(text(data)) is None
    with suppress(NotFound):
        key = keys.checked(text(data))
        assert ".." not in key
        assert keys.content_type_of(key)
    key, _, rest = text(data).partition("\n")
    expires, _, signature = rest.partition("\n")
    with suppress(Forbidden):
        made.check_download(key, expires, signature)
        raise AssertionError("a link was believed that nobody made")


def cursor(data: bytes) -> None:
    with suppress(Invalid):
        seconds, task_id = cursors.read_cursor(text(data))
        assert not math.isnan(seconds)
        assert len(task_id) == 32


def callback_answer(data: bytes) -> None:
    callbacks._nothing_missed(b'{"products": null}', data)
    callbacks._nothing_missed(data, b'{"code": "PRODUCT_NOT_FOUND"}')


def retry_after(data: bytes) -> None:
    after = retry_after_s(data.decode("latin-1"), 3600.0)
    assert after is None or 0 <= after <= 3600


def photo_metadata(data: bytes) -> None:
    assert 1 <= photo_parts.orientation({"exif": data}) <= 8
    assert 1 <= photo_parts.orientation({"xmp": data, "Raw profile type exif": text(data)}) <= 8
    with suppress(PhotoError):
        photo_type(data)
    with suppress(PhotoError, IndexError):
        heic_cost(data)
    with suppress(PhotoError):
        photo_parts.check_png(b"\x89PNG\r\n\x1a\n" + data)
    with suppress(PhotoError):
        photo_parts.check_jpeg(b"\xff\xd8\xff" + data)


PARSERS: list[Parser] = [
    photo_url,
    photo_host_setting,
    settings,
    prefer,
    request_id,
    request_bodies,
    naver_item,
    outside,
    openai_answer,
    wire_headers,
    file_links,
    cursor,
    callback_answer,
    retry_after,
    photo_metadata,
]
SEEDS: list[tuple[Parser, bytes]] = [
    (photo_url, "http://사진.kr:8080/책상 1.jpg?X-Amz-Signature=a%2Fb#c".encode()),
    (photo_url, b"http://user@[64:ff9b::7f00:1]:80/"),
    (photo_url, b"http://0x7f.1./"),
    (photo_host_setting, b"xn--vf4bi0o.kr"),
    (settings, b"runners=http://127.0.0.1:1"),
    (settings, b"database_url=postgresql://u:p@h/d"),
    (settings, b"photo_allowed_hosts=a.test,127.0.0.1"),
    (prefer, b'respond-async, wait=10; a="b\\"c"'),
    (request_id, b"0af7651916cd43dd8448eb211c80319c"),
    (request_bodies, b'{"initial_image_url": "http://a.test/b", "concept": "OIL"}'),
    (naver_item, '{"title": "<b>마우스</b> &amp;amp; 패드", "link": "https://a.test", "lprice": "21,990"}'.encode()),
    (naver_item, b'{"title": "a", "link": "http://a", "lprice": 1, "category1": null, "category2": "b"}'),
    (outside, "&lt;b&gt;a\u200b &#x41; <!-- c --> 데스크".encode()),
    (openai_answer, '{"prompt": "a", "keywords": ["마우스"], "tags": ["b"], "mood": "c"}'.encode()),
    (openai_answer, b'{"choices": [{"finish_reason": "length", "message": {"refusal": "no"}}], "usage": null}'),
    (wire_headers, b"1,2,2,3\nuint8\n" + bytes(12)),
    (wire_headers, b"1\nfloat32\nabcd"),
    (file_links, b"inputs/2026/11/22/" + b"a" * 32 + b".jpg\n1799999999\nabc"),
    (file_links, b"http://127.0.0.1:8080/files/uploads/task/aa/" + b"a" * 32 + b".png?expires=1&signature=b"),
    (cursor, b"MTc2Mzg0MDAwMC4wIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"),
    (callback_answer, b'{"code": "PRODUCT_NOT_FOUND"}'),
    (retry_after, b"Wed, 21 Oct 2026 07:28:00 GMT"),
    (photo_metadata, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0"),
]
