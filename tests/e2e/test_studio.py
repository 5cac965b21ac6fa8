"""The studio in a real browser, against a whole service with keys: what a person does, and what goes wrong for them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from demo.running import service
from deskterior.gateway.keys import Entry, Limits
from sandbox import serving
from tests.e2e.conftest import SAMPLES, environment

KEY, ENTRY = Entry.make("studio", ["classify", "generate", "tasks:read", "tasks:write"])
POOR_KEY, POOR = Entry.make("poor", ["classify", "generate", "tasks:read"], Limits(usd_per_day=0))
DESK = SAMPLES / "desk.jpg"
GUIDELINES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
SLOW_MACHINE_MS = 30_000


@dataclass
class Visit:
    """A page of one person's browser, and all that it asked for and complained of."""

    page: Page
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def choose(self, photo: Path | dict[str, Any]) -> None:
        self.page.set_input_files("#file", photo)  # type: ignore[arg-type]

    def start(self, concept: str) -> None:
        self.page.locator(f"input[value={concept}]").check(force=True)
        self.page.locator("#start").click()

    def makeover(self, concept: str) -> None:
        self.choose(DESK)
        expect(self.page.locator("#verdict")).to_have_attribute("data-verdict", "desk")
        self.start(concept)


Enter = Callable[..., Visit]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The service's address and the sandbox's."""
    folder = tmp_path_factory.mktemp("studio")
    keys = json.dumps([entry.model_dump(mode="json") for entry in (ENTRY, POOR)])
    with (
        serving.in_process("--latency", "0") as (sandbox, _),
        service(folder / "service.log", **environment(folder, API_KEYS=keys, SANDBOX_URL=sandbox)) as base,
    ):
        yield base, sandbox


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        assert not os.environ.get("CI"), "CI has a browser: `make browser` installs it"
        pytest.skip("no browser here: as root, `make browser` installs Chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--no-proxy-server", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def enter(browser: Browser, house: tuple[str, str]) -> Iterator[Enter]:
    """Open the studio as somebody with `key`. Whatever the browser complains of fails the test."""
    httpx.delete(f"{house[1]}/faults")
    visits: list[Visit] = []

    def one(path: str = "/studio", key: str = KEY, locale: str = "en-US", width: int = 1280, **more: Any) -> Visit:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 900}, **more)
        context.set_default_timeout(SLOW_MACHINE_MS)
        if key:
            context.add_init_script(f"sessionStorage.setItem('deskterior.key', '{key}')")
        visit = Visit(context.new_page())
        visits.append(visit)
        visit.page.on("request", lambda asked: visit.asked.append((asked.method, asked.url, asked.headers)))
        visit.page.on("console", lambda said: visit.complaints.extend([said.text] if said.type == "error" else []))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.goto(house[0] + path)
        return visit

    expect.set_options(timeout=SLOW_MACHINE_MS)
    yield one
    for visit in visits:
        visit.page.context.close()
        # A refused request is one of the service's answers; the browser notes each.
        assert not [said for said in visit.complaints if not said.startswith("Failed to load resource")]


def test_a_photo_becomes_a_picture_and_products(enter: Enter, house: tuple[str, str]) -> None:
    visit = enter()
    page = visit.page
    expect(page.locator("#formats")).to_contain_text("20 MB")
    expect(page.locator("#start")).to_be_disabled()
    visit.makeover("OIL")
    expect(page.locator("#progress-title")).to_have_text(re.compile(r"^Done in [0-9.]+s$"))

    cut, compare = page.locator("#cut"), page.locator("#compare")
    expect(compare).to_be_visible()
    for picture in ("#before", "#after"):
        assert page.locator(picture).evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    cut.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(cut).to_have_value("55")
    expect(cut).to_have_attribute("aria-valuetext", "55% before")
    assert compare.evaluate("frame => frame.style.getPropertyValue('--cut')") == "55%"
    box = compare.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + 100)
    assert 18 <= int(cut.input_value()) <= 22

    task = httpx.get(f"{house[0]}/tasks?limit=1", headers={"X-API-Key": KEY}).json()["tasks"][0]
    assert task["concept"] == "OIL"
    goods = page.locator("a.good")
    details = [detail for product in task["result"]["products"] for detail in product["details"]]
    expect(goods).to_have_count(len(details))
    assert goods.first.get_attribute("href") == details[0]["link"]
    assert goods.first.get_attribute("rel") == "noopener noreferrer"
    expect(goods.first.locator(".name")).to_have_text(details[0]["title"])
    expect(goods.first.locator(".price")).to_have_text(f"₩{int(details[0]['price']):,}")
    expect(page.locator("#progress summary").first).to_have_text(re.compile(r"^Cost \$0\.[0-9]+$"))

    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.startswith("deskterior-oil-")
    assert download.value.path().stat().st_size > 10_000

    page.reload()  # it is still there, by the address of the page
    expect(compare).to_be_visible()
    visit.start("CARTOON")  # another style for the same photo
    expect(page.locator("#progress-title")).to_have_text(re.compile("^Done"))
    expect(page.locator("#after")).to_have_attribute("alt", "After: Cartoon")
    expect(page.locator("#progress-title")).to_be_focused()
    expect(page.locator(".task[data-status=succeeded]")).to_have_count(2)
    assert sum(url.endswith("/uploads") for _, url, _ in visit.asked) == 1


def test_the_key_goes_to_the_service_alone_and_stays_in_the_tab(enter: Enter, house: tuple[str, str]) -> None:
    visit = enter(key="")
    page = visit.page
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This studio needs a key")
    field = dialog.get_by_label("API key")
    for wrong in (KEY[:-6] + "aaaaaa", "책상"):
        field.fill(wrong)
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("That key was not accepted.")
    field.fill(KEY)
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_be_hidden()
    visit.makeover("BASIC")
    expect(page.locator("#progress-title")).to_have_text(re.compile("^Done"))
    kept = page.evaluate("[JSON.stringify({...localStorage}), document.cookie, location.href]")
    assert KEY not in "".join(kept)
    with_key = [(method, url) for method, url, headers in visit.asked if headers.get("x-api-key") == KEY]
    assert ("POST", f"{house[0]}/v1/generate") in with_key
    assert any(url.endswith("/events") for _, url in with_key)
    for method, url, headers in visit.asked:
        assert KEY not in url
        if "/files/" in url or not url.startswith(house[0]):
            assert KEY not in str(headers), f"{method} {url}"


def test_a_key_that_is_declined_leaves_words_and_a_way_on(enter: Enter) -> None:
    page = enter(key="").page
    page.get_by_role("button", name="Not now").click()
    expect(page.locator("#problem")).to_contain_text("A key is needed")
    page.locator("#problem").get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_what_is_no_desk_is_not_made_over(enter: Enter, photos: dict[str, str]) -> None:
    visit = enter(locale="ko-KR")
    page = visit.page
    expect(page).to_have_title("Deskterior 스튜디오")
    page.locator("#address").fill(photos["empty_shelf"])
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("책상이 아닙니다")
    expect(page.locator("#start")).to_be_disabled()
    expect(page.locator("#start-why")).to_have_text("책상 사진이 필요합니다")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#verdict")).to_contain_text("Not a desk")
    assert page.evaluate("document.documentElement.lang") == "en"
    page.get_by_role("button", name="Another photo").click()
    expect(page.locator("#choose")).to_be_focused()
    visit.choose(SAMPLES / "desk_portrait_phone.jpg")
    expect(page.locator("#verdict")).to_contain_text("This is a desk")


def test_wrong_photos_are_told_in_words_in_both_languages(enter: Enter, photos: dict[str, str]) -> None:
    visit = enter()
    page, problem = visit.page, visit.page.locator("#problem")
    visit.choose({"name": "desk.jpg", "mimeType": "image/jpeg", "buffer": b"<html>" * 100})
    expect(problem).to_contain_text("Not a photo that can be used")
    visit.choose({"name": "desk.png", "mimeType": "image/png", "buffer": DESK.read_bytes()[:5000]})  # cut off
    expect(problem).to_contain_text("The photo cannot be read")
    page.get_by_role("button", name="Another photo").click()
    page.locator("#address").fill(f"{photos['desk']}nothing")
    page.keyboard.press("Enter")
    expect(problem).to_contain_text("The photo could not be fetched")
    expect(problem).to_contain_text("404")  # the service's own words
    expect(problem.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="한국어").click()
    expect(problem).to_contain_text("사진을 가져오지 못했습니다")
    assert not [url for _, url, _ in visit.asked if url.endswith("/generate")]


def test_a_makeover_that_failed_goes_on_where_it_stopped_and_can_be_deleted(
    enter: Enter, house: tuple[str, str]
) -> None:
    visit = enter()
    page, progress = visit.page, visit.page.locator("#progress")
    httpx.post(f"{house[1]}/faults", json={"where": "openai.images", "kind": "status", "status": 400, "times": None})
    visit.makeover("SIMPLE")
    expect(progress).to_contain_text("An outside service failed")
    expect(progress.locator("li[data-state=failed]")).to_contain_text("Draw it anew")
    httpx.delete(f"{house[1]}/faults")
    progress.get_by_role("button", name="Go on from here").click()
    expect(page.locator("#progress-title")).to_have_text(re.compile("^Done"))
    row = page.locator(".task").first
    expect(row).to_have_attribute("data-status", "succeeded")
    rows = page.locator(".task").count()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#drop")).to_be_visible()  # what was on show is gone
    expect(page.locator(".task")).to_have_count(rows - 1)


def test_a_makeover_under_way_can_be_cancelled_and_found_again(enter: Enter, house: tuple[str, str]) -> None:
    visit = enter(locale="ko")
    page = visit.page
    slow = {"where": "openai.images", "kind": "delay", "seconds": 8}
    httpx.post(f"{house[1]}/faults", json=slow)
    visit.makeover("MSPAINT")
    expect(page.locator("li[data-state=started]")).to_have_text(re.compile("새로 그리기"))
    page.reload()
    expect(page.locator("li[data-state=started]")).to_have_text(re.compile("새로 그리기"))
    page.locator("#progress").get_by_role("button", name="취소").click()
    expect(page.locator("#progress-title")).to_have_text("취소됨")
    expect(page.locator(".task").first).to_have_attribute("data-status", "cancelled")


def test_where_no_stream_comes_through_the_task_is_looked_at(enter: Enter) -> None:
    visit = enter()
    visit.page.route("**/events", lambda route: route.abort())
    visit.makeover("BASIC")
    expect(visit.page.locator("#compare")).to_be_visible()


def test_an_answer_from_before_the_end_does_not_bring_a_task_back_to_life(enter: Enter) -> None:
    visit = enter()
    page = visit.page
    held: list[Route] = []
    page.route(re.compile(r"/tasks/[0-9a-f-]+$"), lambda route: held.append(route))
    visit.makeover("BASIC")
    expect(page.locator("#compare")).to_be_visible()
    assert held
    for route in held:
        told = route.fetch().json()
        route.fulfill(json={**told, "status": "running", "result": None, "finished_at": None})
    page.evaluate("fetch('health')")  # whatever was answered before has been seen
    expect(page.locator("#progress-title")).to_have_text(re.compile("^Done"))


def test_spent_money_says_when_it_goes_on(enter: Enter) -> None:
    visit = enter(key=POOR_KEY)
    visit.makeover("BASIC")
    problem = visit.page.locator("#problem")
    expect(problem).to_contain_text("The day's budget is spent")
    expect(problem.get_by_role("button", name=re.compile("Try again"))).to_be_visible()
    expect(visit.page.locator("#start")).to_be_enabled()


def test_a_busy_service_is_asked_again_only_when_it_says_and_as_the_same_start(enter: Enter) -> None:
    visit = enter()
    page = visit.page
    keys: list[str] = []

    def busy(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) > 1:
            route.continue_()
            return
        said = {"type": "/problems/overloaded", "title": "Busy", "status": 503, "detail": "Full", "request_id": "r"}
        headers = {"Retry-After": "2", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(said))

    page.route("**/v1/generate", busy)
    visit.makeover("BASIC")
    button = page.locator("#problem").get_by_role("button", name=re.compile("Try again in [12]s"))
    expect(button).to_be_disabled()
    page.locator("#problem").get_by_role("button", name=re.compile("^Try again$")).click()
    expect(page.locator("#compare")).to_be_visible()
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_what_strangers_wrote_is_text_and_leads_nowhere_but_to_the_web(enter: Enter, house: tuple[str, str]) -> None:
    visit = enter()
    page = visit.page
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'

    def hostile(route: Route) -> None:
        detail = dict.fromkeys(("title", "mall", "main_category", "sub_category"), evil)
        bad = {**detail, "price": "1", "link": "javascript:window.hit=1", "image": "javascript:window.hit=1"}
        task = route.fetch().json()
        if task["status"] == "succeeded":
            task["result"]["products"] = [{"keyword": evil, "details": [bad]}]
            task["warnings"] = [evil]
        route.fulfill(json=task)

    visit.makeover("BASIC")
    expect(page.locator("#compare")).to_be_visible()
    page.route(re.compile(r"/tasks/[0-9a-f-]+$"), hostile)
    page.route("**/events", lambda route: route.abort())
    page.reload()
    expect(page.locator("#product-list h3")).to_have_text(evil)
    expect(page.locator("a.good")).to_have_count(0)
    expect(page.locator("div.good .name")).to_have_text(evil)
    assert page.evaluate("window.hit") is None
    refused = "try { document.body.innerHTML = '<p>' } catch (error) { error.name }"
    assert page.evaluate(refused) == "TypeError"  # Trusted Types
    visit.complaints.clear()  # of that last one


def test_our_own_model_is_offered_where_the_service_says_that_one_is_installed(enter: Enter) -> None:
    visit = enter()
    page = visit.page
    expect(page.locator("#version")).not_to_be_empty()
    expect(page.locator("#models")).to_be_hidden()

    def installed(route: Route) -> None:
        told = route.fetch().json()
        version = {"version": "1", "active": True, "digest": "", "family": "", "loras": [], "problem": ""}
        told["drawing"] = {"device": "cpu", "versions": [version], "problem": ""}
        route.fulfill(json=told)

    page.route("**/info", installed)
    page.reload()
    page.get_by_text("Our own model").click()
    visit.makeover("BASIC")  # and is gone by now
    expect(page.locator("#problem")).to_contain_text("Our own model is not installed")
    page.get_by_text("OpenAI").click()
    page.locator("#start").click()
    expect(page.locator("#compare")).to_be_visible()


def test_it_works_under_the_prefix(enter: Enter, house: tuple[str, str]) -> None:
    visit = enter("/app/routers/studio")
    visit.choose(DESK)
    expect(visit.page.locator("#verdict")).to_have_attribute("data-verdict", "desk")
    own = [url for _, url, _ in visit.asked if url.startswith("http") and "/files/" not in url]
    assert all(url.startswith(f"{house[0]}/app/routers/") for url in own), own


@pytest.mark.parametrize(("locale", "scheme"), [("en", "light"), ("ko", "dark")])
def test_it_fits_a_small_screen_and_the_accessibility_guidelines(enter: Enter, locale: str, scheme: str) -> None:
    visit = enter(locale=locale, width=360, color_scheme=scheme, reduced_motion="reduce", has_touch=True)
    page = visit.page

    def fits(what: str) -> None:
        found = Axe().run(page, options=GUIDELINES)
        assert found.violations_count == 0, f"{what}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, what

    expect(page.locator("#version")).not_to_be_empty()
    fits("empty")
    visit.choose({"name": "desk.jpg", "mimeType": "image/jpeg", "buffer": b"nothing"})
    expect(page.locator("#problem [role=alert]")).to_be_visible()
    fits("problem")
    visit.makeover("CARTOON")
    expect(page.locator("#compare")).to_be_visible()
    expect(page.locator(".task").first).to_have_attribute("data-status", "succeeded")
    fits("done")
    page.locator(".task").first.locator("[data-action=delete]").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    fits("dialog")
