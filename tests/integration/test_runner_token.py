"""The shared secret of the runners' wire: without it no path works, and it is on no command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Self

import httpx
import numpy as np
import psutil
import pytest

from deskterior.config import Settings, SettingsError
from deskterior.errors import RunnerFailed
from runners import launcher
from runners.placement import connect_desk_classifier
from runners.token import OPEN_PATHS, TokenGuard, demanded_token, new_token
from runners.wire import array_bytes, array_headers
from tests import tiny_desk
from tests.integration.desks import running
from tests.tiny_desk import expected_score, photo

TOKEN = "canary-runner-token-0123456789"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and process of a runner that demands `TOKEN`."""
    model = tiny_desk.write(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_TOKEN", TOKEN)
        with running(model) as (child, url):
            patch.undo()  # the runner has it; what this process tests must not
            assert child.pid
            yield url, child.pid


async def test_the_api_shows_the_token_and_is_answered(runner: tuple[str, int]) -> None:
    settings = Settings(_env_file=None, desk_runner=runner[0], runner_token=TOKEN)
    desk = await connect_desk_classifier(settings)
    try:
        assert await desk.score(photo(7)) == pytest.approx(expected_score(7), abs=1e-5)
    finally:
        await desk.aclose()


@pytest.mark.parametrize("token", ["", "another-runner-token-01", TOKEN[:-1], TOKEN + "0", TOKEN.upper()])
async def test_without_the_very_token_the_start_says_what_is_wrong(runner: tuple[str, int], token: str) -> None:
    with pytest.raises(RunnerFailed, match="RUNNER_TOKEN") as raised:
        await connect_desk_classifier(Settings(_env_file=None, desk_runner=runner[0], runner_token=token))
    assert TOKEN not in repr(raised.value.__dict__)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/score"),
        ("GET", "/model"),
        ("POST", "/classify"),
        ("GET", "/metrics"),
        ("GET", "/docs.json"),
        ("GET", "/schema.json"),
        ("GET", "/"),
        ("GET", "//model"),
        ("GET", "/readyz/../model"),
        ("OPTIONS", "/score"),
        ("HEAD", "/model"),
    ],
)
def test_no_path_works_without_the_token(runner: tuple[str, int], method: str, path: str) -> None:
    body = np.zeros((1, 224, 224, 3), np.uint8)
    for authorization in (None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer  {TOKEN}"):
        headers = array_headers(body) | ({"Authorization": authorization} if authorization else {})
        # The address as it is written: a client would tidy the path up.
        answer = httpx.request(method, runner[0] + path, content=array_bytes(body), headers=headers, trust_env=False)
        assert answer.status_code == 401, authorization
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert TOKEN not in answer.text


def test_two_authorizations_are_none(runner: tuple[str, int]) -> None:
    twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
    assert httpx.get(f"{runner[0]}/model", headers=twice, trust_env=False).status_code == 401


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_who_starts_a_runner_may_ask_whether_it_lives(runner: tuple[str, int], path: str) -> None:
    answer = httpx.get(runner[0] + path, trust_env=False)
    assert answer.status_code == 200
    assert answer.text.strip() == ""


def test_the_token_is_on_no_command_line(runner: tuple[str, int]) -> None:
    process = psutil.Process(runner[1])
    for each in [process, *process.children(recursive=True)]:
        assert TOKEN not in " ".join(each.cmdline())


async def test_a_websocket_without_the_token_is_closed_unseen() -> None:
    async def never(scope: object, receive: object, send: object) -> None:
        raise AssertionError("the runner was reached")

    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    await TokenGuard(never, TOKEN)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close"}]


def test_the_service_makes_a_token_for_the_runner_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []

    class Started(launcher.Child):
        def start(self) -> Self:
            started.append(self._env)
            return self

        def wait_ready(self, within_s: float = 0) -> None:
            pass

    for name in ("RUNNER_TOKEN", "DESK_RUNNER", "CUSTOM_RUNNER"):
        monkeypatch.setenv(name, "")  # so that what the launcher sets is taken back
    monkeypatch.setattr(launcher, "Child", Started)
    settings = Settings(_env_file=None, desk_runner="process", openai_base_url="http://o", naver_base_url="http://n")
    launcher.start_beside(settings)
    assert len(os.environ["RUNNER_TOKEN"]) > 30
    assert [env["RUNNER_TOKEN"] for env in started] == [os.environ["RUNNER_TOKEN"]]
    assert new_token() != new_token()


def production(**changes: str) -> Settings:
    return Settings(_env_file=None, env="production", api_keys="x", **changes)  # type: ignore[arg-type]


def test_production_wants_a_token_for_a_runner_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"RUNNER_TOKEN is missing.*gpu\.example"):
        production(runners="http://gpu.example:3000")
    with pytest.raises(ValueError, match="RUNNER_TOKEN is missing"):
        production(custom_runner="http://10.0.0.7:3000")
    production(runners="http://gpu.example:3000", runner_token=TOKEN)
    production(runners="http://127.0.0.1:3000")
    production(runners="http://[::1]:3000")
    production(runners="process")


def test_a_runner_in_production_is_no_open_door() -> None:
    with pytest.raises(SettingsError, match="RUNNER_TOKEN is missing"):
        demanded_token(production())
    assert demanded_token(production(runner_token=TOKEN)) == TOKEN
    assert demanded_token(Settings(_env_file=None)) == ""


@pytest.mark.parametrize(
    "token", ["short", "with blank in it 0123", "글자글자글자글자글자글자글자글자", "x" * 300, "a\nb" * 8]
)
def test_a_token_that_no_header_carries_stops_the_start(token: str) -> None:
    with pytest.raises(ValueError, match="must be 16 to 256"):
        Settings(_env_file=None, runner_token=token)
