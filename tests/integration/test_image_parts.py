"""What the image is made of, with no engine to build it: the CUDA Bento, the health check, the digest of a source."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deploy.image import health
from deploy.image.image import Engine, NoEngine, digest
from deskterior.config import ROOT


def test_the_cuda_bento_is_the_same_with_other_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.image", "bento", "--variant", "cuda"]
    said = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "BENTOML_HOME": str(tmp_path)}, check=True, capture_output=True, text=True
    ).stdout
    name, _, version = said.split()[-1].partition(":")
    assert name == "deskterior-cuda"
    bento = tmp_path / "bentos" / name / version
    assert "\ntorch==" in (bento / "src" / "requirements-gpu.txt").read_text()
    assert "torch==" in (bento / "env" / "python" / "requirements.txt").read_text()
    assert not (bento / "src" / "requirements-serve.txt").exists()
    assert (bento / "src" / "models" / "desk_classifier" / "model.json").exists()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/health": 200, "/sick": 503}.get(self.path, 404))
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("path", "code"), [("/health", 0), ("/sick", 1), ("/nowhere", 1)])
def test_the_health_check_is_content_with_200_alone(port: int, path: str, code: int) -> None:
    assert health.main([path, str(port)]) == code


def test_the_health_check_asks_health_on_the_services_port(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(port))
    assert health.main([]) == 0


def test_where_nobody_listens_the_health_check_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["/health", "1"]) == 1
    assert "/health on port 1" in capsys.readouterr().out


def test_a_source_has_the_same_digest_wherever_and_whenever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "room").mkdir(parents=True)
        (tmp_path / name / "room" / "a.py").write_text("a = 1\n")
        (tmp_path / name / "b.py").write_text("b = 1\n")
    os.utime(tmp_path / "two" / "b.py", (1, 1))
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    (tmp_path / "two" / "b.py").rename(tmp_path / "two" / "c.py")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_without_an_engine_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEngine, match="Docker or podman"):
        Engine.at_hand()
