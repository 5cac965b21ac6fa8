"""The whole service over HTTP: `bentoml serve`, and the Bento that `bentoml build` makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import bentoml
import httpx
import pytest

from demo.running import ROOT, free_port, service
from tests.e2e.conftest import environment


@pytest.mark.parametrize("prefix", ["", "/app/routers"])
@pytest.mark.parametrize(("photo", "desk"), [("desk", True), ("dining_table", False), ("empty_shelf", False)])
def test_the_samples_are_classified_right(
    base: str, photos: dict[str, str], prefix: str, photo: str, desk: bool
) -> None:
    answer = httpx.post(f"{base}{prefix}/classify", json={"initial_image_url": photos[photo], "concept": "OIL"})
    assert answer.status_code == 200
    assert answer.json() == {"initial_image_url": photos[photo], "classify": desk}
    assert 0 <= float(answer.headers["x-desk-score"]) <= 1


def test_an_address_comes_back_byte_for_byte(base: str, photos: dict[str, str]) -> None:
    odd = photos["desk"].replace("http://", "HTTP://") + "?이름=책상&a=%ea%b0%80&b=%EA%B0%80+c#조각"
    answer = httpx.post(f"{base}/classify", json={"initial_image_url": odd})
    assert answer.json() == {"initial_image_url": odd, "classify": True}


def test_bentomls_own_client_can_call_classify(base: str, photos: dict[str, str]) -> None:
    with bentoml.SyncHTTPClient(base) as client:
        answer = client.classify({"initial_image_url": photos["desk"]})
    assert dict(answer)["classify"] is True


@pytest.mark.parametrize("path", ["/health", "/healthcheck", "/app/routers/healthcheck"])
def test_health_says_what_was_checked(base: str, path: str) -> None:
    answer = httpx.get(f"{base}{path}")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    parts = {"desk_classifier", "gpu", "job_store", "job_workers", "drawing_model"}
    assert set(answer.json()["checks"]) == parts


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/schema.json", "/app/routers/readyz"])
def test_bentomls_own_paths_answer(base: str, path: str) -> None:
    assert httpx.get(f"{base}{path}").status_code == 200


@pytest.mark.parametrize("prefix", ["", "/app/routers"])
def test_the_documentation_shows_the_surface(base: str, prefix: str) -> None:
    document = httpx.get(f"{base}{prefix}/openapi.json").json()
    assert {"/classify", "/health", "/info"} <= set(document["paths"])
    assert "application/problem+json" in document["paths"]["/classify"]["post"]["responses"]["4XX"]["content"]
    page = httpx.get(f"{base}{prefix}/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets
    for asset in assets:
        assert httpx.get(urljoin(f"{base}{prefix}/docs", asset)).status_code == 200, (
            "the page must not need another host"
        )


def test_without_keys_the_sandbox_answers_and_says_so(base: str, photos: dict[str, str]) -> None:
    providers = httpx.get(f"{base}/info").json()["providers"]
    assert all(provider["sandbox"] for provider in providers.values())
    described = httpx.post(f"{base}/v1/prompt", json={"image_url": photos["desk"]}, timeout=60)
    assert described.status_code == 200
    assert set(described.json()) == {"prompt", "keywords", "tags", "mood"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug"),
    [
        ("GET", "/nowhere", b"", 404, "not-found"),
        ("GET", "/classify", b"", 405, "method-not-allowed"),
        ("DELETE", "/health", b"", 405, "method-not-allowed"),
        ("POST", "/classify", b"", 422, "validation"),
        ("POST", "/classify", b"{", 422, "validation"),
        ("POST", "/classify", b"\xff\xfe", 422, "validation"),
        ("POST", "/classify", b"[]", 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": 3}', 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": null}', 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": ""}', 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": "\\ud800"}', 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": "http://a/b", "concept": "PUNK"}', 422, "validation"),
        ("POST", "/classify", b'{"initial_image_url": "file:///etc/passwd"}', 422, "photo-url-forbidden"),
        ("POST", "/classify", b'{"initial_image_url": "http://localhost/x.jpg"}', 422, "photo-url-forbidden"),
        ("POST", "/classify", b'{"initial_image_url": "http://127.0.0.1:9/x.jpg"}', 422, "photo-unreachable"),
        ("POST", "/classify", b"[" * 60_000, 422, "validation"),
        ("POST", "/classify", b"x" * 100_000, 413, "body-too-large"),
    ],
)
def test_every_error_has_the_one_shape(base: str, method: str, path: str, body: bytes, status: int, slug: str) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "r-1"}
    answer = httpx.request(method, base + path, content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{slug}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"] == "r-1"
    assert problem["title"]
    assert problem["detail"]
    assert bool(problem.get("errors")) == (slug == "validation")


def test_a_setting_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    settings = environment(tmp_path) | {"STORAGE_DIR": str(tmp_path / "file" / "storage")}
    command = [sys.executable, "-m", "bentoml", "serve", "service:Deskterior", "--port", str(free_port())]
    env = {**os.environ, "BENTOML_DO_NOT_TRACK": "true", **settings}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Deskterior does not start. STORAGE_DIR" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_websocket_is_refused_in_the_one_shape(base: str) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = httpx.get(f"{base}/classify", headers=headers)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_pickle_is_never_opened(base: str) -> None:
    headers = {"Content-Type": "application/vnd.bentoml+pickle"}
    answer = httpx.post(f"{base}/classify", content=b"cos\nsystem\n(S'true'\ntR.", headers=headers)
    assert answer.status_code == 422


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Bento, built into a store of the test's own."""
    store = tmp_path_factory.mktemp("bentoml")
    env = {**os.environ, "BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "bentoml", "build", "-o", "tag"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
    (built,) = [path for path in (store / "bentos" / "deskterior").iterdir() if path.is_dir()]
    return built


@pytest.mark.parametrize("runners", ["embedded", "process"])
def test_the_bento_answers(bento: Path, photos: dict[str, str], tmp_path: Path, runners: str) -> None:
    with service(tmp_path / "log", bento, RUNNERS=runners, **environment(tmp_path)) as url:
        answer = httpx.post(f"{url}/classify", json={"initial_image_url": photos["desk"]})
    assert answer.json() == {"initial_image_url": photos["desk"], "classify": True}


def test_the_bento_carries_what_serving_needs_and_no_more(bento: Path) -> None:
    carried = {path.relative_to(bento / "src").parts[0] for path in (bento / "src").rglob("*") if path.is_file()}
    assert {"service.py", "deskterior", "runners", "models"} <= carried
    assert not {"tests", "training", "samples", "demo", "benchmarks"} & carried
    requirements = (bento / "env" / "python" / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements
    assert "torch==" not in requirements
