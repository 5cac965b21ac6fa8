"""Keys and signed links: what they let through, and above all what they do not."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskterior.config import Settings, SettingsError
from deskterior.errors import Forbidden, NotFound, PhotoTypeUnsupported
from deskterior.storage import Links, key_for, request_base, sniff
from deskterior.storage.keys import checked, content_type_of, new_key
from deskterior.storage.links import stored_secret

KEY = "results/2026/11/22/" + "0a" * 16 + ".png"
OTHER = new_key("results", "image/png")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def links(base: str = "https://desk.example/ai", **changes: object) -> Links:
    clock = changes.get("clock", Clock())
    assert callable(clock)
    return Links(b"s" * 32, base=base, trust_host=bool(changes.get("trust_host")), clock=clock)


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def test_two_pictures_never_get_one_key() -> None:
    keys = [new_key("results", "image/jpeg") for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert all(checked(key) == key and content_type_of(key) == "image/jpeg" for key in keys)


@pytest.mark.parametrize("task_id", ["01J-a", "../../etc/passwd", "한글", "", "a" * 10_000])
def test_a_tasks_picture_has_one_key_whatever_its_id_looks_like(task_id: str) -> None:
    key = key_for("results", task_id, "image/png")
    assert checked(key) == key
    assert key == key_for("results", task_id, "image/png")
    assert key != key_for("inputs", task_id, "image/png")
    assert key != key_for("results", task_id + "x", "image/png")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "../secret",
        ".link-secret",
        "results/../.link-secret",
        "results/2026/11/22/../../../../etc/passwd",
        f"/{KEY}",
        f"{KEY}/",
        f"{KEY}\n",
        f"{KEY}%00",
        KEY.replace("results", "private"),
        KEY.replace(".png", ".html"),
        KEY.upper(),
        KEY.replace("/", "\\"),
        "results/٢٠٢٦/11/22/" + "0" * 32 + ".png",
    ],
)
def test_what_is_no_key_is_not_found(key: str) -> None:
    with pytest.raises(NotFound):
        checked(key)


def test_other_types_are_not_stored() -> None:
    with pytest.raises(PhotoTypeUnsupported, match="image/gif"):
        new_key("results", "image/gif")


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "image/heic"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00", None),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"GIF89a", None),
        (b"<svg onload=alert(1)>", None),
        (b"", None),
    ],
)
def test_a_pictures_type_is_told_by_its_first_bytes(head: bytes, media_type: str | None) -> None:
    assert sniff(head) == media_type


def test_a_download_link_is_good_until_it_expires() -> None:
    clock = Clock()
    to = links(clock=clock)
    url = to.download(KEY, 600)
    assert url.startswith(f"https://desk.example/ai/files/{KEY}?")
    assert len(url) < 255  # the flat callback's limit
    assert to.key_of(url) == KEY
    to.check_download(KEY, **query(url))
    clock.now += 599
    assert to.key_of(url) == KEY
    clock.now += 62  # rounded up by a tenth at most
    assert to.key_of(url) is None
    with pytest.raises(Forbidden, match="expired"):
        to.check_download(KEY, **query(url))


def test_a_link_asked_for_again_soon_is_the_same() -> None:
    clock = Clock()
    to = links(clock=clock)
    first = to.download(KEY, 7 * 24 * 3600)
    clock.now += 1
    assert to.download(KEY, 7 * 24 * 3600) == first


@pytest.mark.parametrize(
    "change",
    [
        {"expires": "9999999999"},
        {"expires": ""},
        {"expires": "-1"},
        {"expires": "١٨٠٠٠٠٠٩٩٩"},
        {"expires": "1" * 5000},
        {"expires": "\ud800"},
        {"signature": ""},
        {"signature": "A" * 43},
        {"signature": "é\udcff"},
    ],
)
def test_a_changed_link_is_forbidden(change: dict[str, str]) -> None:
    to = links()
    with pytest.raises(Forbidden):
        to.check_download(KEY, **(query(to.download(KEY, 60)) | change))


def test_a_signature_is_good_for_its_own_key_method_and_size_only() -> None:
    to = links()
    download = query(to.download(KEY, 60))
    upload = query(to.upload(KEY, 1000)[0])
    to.check_upload(KEY, **upload)
    with pytest.raises(Forbidden):
        to.check_download(OTHER, **download)
    with pytest.raises(Forbidden):
        to.check_download(KEY, upload["expires"], upload["signature"])
    with pytest.raises(Forbidden):
        to.check_upload(KEY, "1000", download["expires"], download["signature"])
    for change in ({"size": "1001"}, {"size": "01000"}, {"size": ""}):
        with pytest.raises(Forbidden):
            to.check_upload(KEY, **(upload | change))


def test_another_secret_makes_other_links() -> None:
    url = Links(b"t" * 32, base="https://desk.example/ai", clock=Clock()).download(KEY, 60)
    assert links().key_of(url) is None


def test_the_key_of_foreign_forged_and_odd_addresses_is_none() -> None:
    to = links()
    url = to.download(KEY, 60)
    for odd in (
        url.replace("desk.example", "evil.example"),
        url.replace("https:", "http:"),
        url.replace("/ai/", "/"),
        url.replace("desk.example", "desk.example:8443"),
        url.replace(KEY, OTHER),
        url.replace(KEY, KEY.replace("results", "inputs")),
        url.replace(KEY, f"../{KEY}"),
        url.replace("expires=", "expires=9"),
        url + "&expires=9999999999",
        url + "&more=1",
        url.partition("?")[0],
        to.upload(KEY, 5)[0],
        "https://[broken/files/",
        "https://desk.example:port/files/",
        "",
        "한글",
        f"file:///{KEY}",
    ):
        assert to.key_of(odd) is None, odd


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_link_of_ours(text: str) -> None:
    to = links(base="", trust_host=True)
    assert to.key_of(text) is None
    assert to.key_of(f"http://127.0.0.1:8080/files/{KEY}?expires=9999999999&signature={text}") is None


def test_in_development_links_begin_with_the_address_the_request_came_to() -> None:
    to = links(base="", trust_host=True)
    assert to.download(KEY, 60).startswith(f"http://127.0.0.1:8080/files/{KEY}?")
    token = request_base.set("http://laptop.test:9999/prefix")
    url = to.download(KEY, 60)
    request_base.reset(token)
    assert url.startswith(f"http://laptop.test:9999/prefix/files/{KEY}?")
    assert to.key_of(url) == KEY  # also later, in a job that knows no request


def test_in_production_the_host_header_is_not_believed() -> None:
    to = links(base="", trust_host=False)
    token = request_base.set("http://evil.example")
    url = to.download(KEY, 60)
    request_base.reset(token)
    assert url.startswith("http://127.0.0.1:8080/files/")
    assert to.key_of(url.replace("127.0.0.1:8080", "evil.example")) is None


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "store"
    first = stored_secret(folder)
    assert stored_secret(folder) == first
    assert len(first) == 64
    [file] = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(stored_secret, [tmp_path / "store"] * 24, chunksize=1)
    assert len(set(found)) == 1
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_a_damaged_secret_is_named(tmp_path: Path) -> None:
    stored_secret(tmp_path)
    next(tmp_path.iterdir()).write_text("short")
    with pytest.raises(SettingsError, match="STORAGE_DIR"):
        stored_secret(tmp_path)


def test_a_folder_that_cannot_hold_the_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="STORAGE_SECRET"):
        stored_secret(tmp_path / "file" / "store")


def test_a_given_secret_needs_no_folder(tmp_path: Path) -> None:
    settings = Settings.model_validate({"storage_secret": "given", "storage_dir": tmp_path / "absent"})
    assert Links.of(settings).key_of(Links.of(settings).download(KEY, 60)) == KEY
    assert not (tmp_path / "absent").exists()
