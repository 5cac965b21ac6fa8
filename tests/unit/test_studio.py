"""The studio's files as they are served, and what must hold of them before any browser looks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deskterior.app import create_app
from deskterior.errors import DeskteriorError, StorageFailed
from deskterior.front import PREFIX, Front
from deskterior.gateway.caller import EVERYONE, Entry
from deskterior.routers.studio import ASSETS, FOLDER, PAGE
from deskterior.schemas import Concept, Upload

FILES = sorted(set(ASSETS) - {PAGE})
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Store:
    """A storage that signs addresses at `origin`."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    async def presign_upload(self, content_type: str, size: int) -> Upload:
        if not self.origin:
            raise StorageFailed("There are no credentials", internal="of the SDK")
        at = f"{self.origin}/bucket/x.jpg?X-Amz-Signature=s"
        return Upload(upload_url=at, headers={}, image_url=at, expires_at="2026-01-01T00:00:00Z")


def client(env: str = "development", store: str = "http://test") -> httpx.AsyncClient:
    app = create_app()
    app.state.services = SimpleNamespace(settings=SimpleNamespace(env=env), storage=Store(store))

    async def enter(scope: Any) -> Entry:
        return Entry(EVERYONE)

    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("this is no path of BentoML's")

    front = Front(nobody, api=app, enter=enter, body_max_bytes=1024, max_concurrency=10)
    return httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://test")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as made:
        yield made


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    parts = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_the_page_is_html_under_a_strict_policy(http: httpx.AsyncClient, prefix: str) -> None:
    answer = await http.get(f"{prefix}/studio")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    told = policy(answer)
    assert told["default-src"] == ["'none'"]
    assert told["script-src"] == told["style-src"] == told["connect-src"] == ["'self'"]
    assert told["frame-ancestors"] == told["form-action"] == told["base-uri"] == ["'none'"]
    assert told["require-trusted-types-for"] == ["'script'"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert (await http.head(f"{prefix}/studio")).status_code == 200


async def test_pictures_come_unencrypted_in_development_alone(http: httpx.AsyncClient) -> None:
    assert {"https:", "http:", "blob:"} <= set(policy(await http.get("/studio"))["img-src"])
    async with client("production") as strict:
        assert policy(await strict.get("/studio"))["img-src"] == ["'self'", "blob:", "data:", "https:"]


async def test_the_store_that_photos_are_put_into_may_be_connected_to_and_nothing_else() -> None:
    async with client("production", "https://bucket.s3.ap-northeast-2.amazonaws.com") as http:
        told = policy(await http.get("/studio"))
        assert told["connect-src"] == ["'self'", "https://bucket.s3.ap-northeast-2.amazonaws.com"]
    async with client("production", "http://minio.internal:9000") as http:
        told = policy(await http.get("/studio"))
        assert "http://minio.internal:9000" in told["connect-src"]
        assert "http://minio.internal:9000" in told["img-src"]


async def test_the_page_opens_where_the_store_is_broken() -> None:
    async with client(store="") as http:
        answer = await http.get("/studio")
        assert answer.status_code == 200
        assert policy(answer)["connect-src"] == ["'self'"]


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("name", FILES)
async def test_a_file_has_its_type_and_is_asked_for_again_by_its_content(
    http: httpx.AsyncClient, prefix: str, name: str
) -> None:
    answer = await http.get(f"{prefix}/studio/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["content-type"].split(";")[0] == TYPES[Path(name).suffix]
    assert answer.headers["cache-control"] == "no-cache"
    etag = answer.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await http.get(f"{prefix}/studio/{name}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await http.get(f"{prefix}/studio/{name}", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_etags_differ_by_content() -> None:
    assert len({asset.etag for asset in ASSETS.values()}) == len(ASSETS)


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "index.html",
        "..%2Fconfig.py",
        "../config.py",
        "concepts",
        "concepts/",
        "concepts/..%2Fstudio.js",
        "//etc/passwd",
        "STUDIO.JS",
        "studio.js%00",
        "studio.js/",
        ".env",
    ],
)
async def test_what_is_no_file_of_it_is_a_problem(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"/studio/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_slash_too_many_leads_to_the_page(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{PREFIX}/studio/")
    assert answer.status_code == 307
    assert httpx.URL(f"http://test{PREFIX}/studio/").join(answer.headers["location"]).path == f"{PREFIX}/studio"


def referred() -> Iterator[tuple[str, str]]:
    """Each address that a file of the studio asks for by itself."""
    patterns = {
        ".html": r"""(?:src|href)="([^"#][^"]*)\"""",
        ".js": r"""from\s+"([^"]+)\"""",
        ".css": r"url\(([^)]+)\)|@import",
        ".svg": r"""(?:xlink:href|href)="([^"#][^"]*)\"""",
    }
    for name, asset in ASSETS.items():
        for found in re.finditer(patterns[Path(name).suffix], asset.body.decode()):
            yield name, found[1]


@pytest.mark.parametrize(("name", "address"), list(referred()))
def test_nothing_outside_is_asked_for_and_all_that_is_asked_for_is_there(name: str, address: str) -> None:
    if address == "docs":
        return
    base = "/studio" if name == PAGE else f"/studio/{name}"
    assert str(httpx.URL(f"http://here{base}").join(address)).removeprefix("http://here/studio/") in ASSETS


def test_there_is_no_script_or_style_within_the_markup_and_no_markup_within_the_scripts() -> None:
    page = ASSETS[PAGE].body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)
    scripts = "".join(asset.body.decode() for name, asset in ASSETS.items() if name.endswith(".js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|DOMParser", scripts)


def words(language: str) -> dict[str, Any]:
    text = ASSETS[f"words-{language}.js"].body.decode()
    found: dict[str, Any] = json.loads(text.partition("export default ")[2].rstrip().removesuffix(";"))
    return found


def test_both_languages_say_all_and_name_the_same_figures() -> None:
    english, korean = words("en"), words("ko")
    assert list(english) == list(korean)
    for key, said in english.items():
        assert type(said) is type(korean[key]), key
        assert set(re.findall(r"{\w+}", str(said))) == set(re.findall(r"{\w+}", str(korean[key]))), key
        if isinstance(said, list):
            assert len(said) == len(korean[key]) == 2
            assert all(re.search("[가-힣]", part) for part in korean[key]), key


def test_every_word_that_the_page_asks_for_is_there() -> None:
    page = ASSETS[PAGE].body.decode()
    asked = set(re.findall(r'data-(?:text|label|hint)="([^"]+)"', page))
    for name, asset in ASSETS.items():
        if name.endswith(".js") and not name.startswith("words-"):
            asked |= set(re.findall(r'\bt\("([\w.]+)"', asset.body.decode()))
    assert len(asked) > 60
    assert asked <= set(words("en"))
    assert {concept.value for concept in Concept} <= set(words("en"))


def slugs(root: type[DeskteriorError] = DeskteriorError) -> set[str]:
    return {root.slug}.union(*(slugs(kind) for kind in root.__subclasses__() if "test" not in kind.__module__))


@pytest.mark.parametrize("slug", sorted(slugs()))
def test_every_problem_of_the_service_has_words(slug: str) -> None:
    assert f"problem.{slug}" in words("en")


@pytest.mark.parametrize("concept", Concept)
def test_every_style_can_be_chosen_and_seen(concept: Concept) -> None:
    assert f'value="{concept.value}"' in ASSETS[PAGE].body.decode()
    assert f"concepts/{concept.value.lower()}.svg" in ASSETS


def test_an_asset_is_small() -> None:
    assert sum(len(asset.body) for asset in ASSETS.values()) < 150_000
