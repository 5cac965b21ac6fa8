"""deploy/gcp/machine: the scripts that run on a machine, run here before a stand-in of Google's metadata server and
Secret Manager, with a `docker` that writes down what it is asked for."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import DEPLOY

MACHINE = DEPLOY / "gcp" / "machine"
TOKEN = "ya29.token-of-the-machine"
OPENAI_KEY = 'sk-it\'s "quoted" $HOME `id` \\ end'
DOCKER = """#!/bin/bash
{ for word in "$@"; do printf '%s\\0' "$word"; done; printf '\\n'; } >>"$CALLS"
case "$1 $2" in
  "login -u") [ "$(cat)" = "$EXPECTED_TOKEN" ] ;;
  "image inspect") printf '/entrypoint.sh\\nserve\\n--host\\n0.0.0.0\\n' ;;
  "wait deskterior") echo 7 ;;
esac
"""


@dataclass
class Google:
    """The metadata server and Secret Manager of one machine."""

    attributes: dict[str, str]
    secrets: dict[str, str | int]
    """Values by name; a number is the status that is answered instead."""
    url: str = ""
    unauthorised: list[str] = field(default_factory=list)


class _Answers(BaseHTTPRequestHandler):
    def __init__(self, google: Google, *args: Any) -> None:
        self._google = google
        super().__init__(*args)

    def do_GET(self) -> None:
        if self.path.startswith("/metadata/"):
            assert self.headers["Metadata-Flavor"] == "Google"
            self._metadata(self.path.removeprefix("/metadata/"))
        else:
            self._secret(self.path.removeprefix("/secrets/projects/my-project/secrets/"))

    def _metadata(self, path: str) -> None:
        if path == "project/project-id":
            self._answer(200, "my-project")
        elif path == "instance/service-accounts/default/token":
            self._answer(200, json.dumps({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}))
        else:
            name = path.removeprefix("instance/attributes/")
            self._answer(200, self._google.attributes[name]) if name in self._google.attributes else self._answer(404)

    def _secret(self, path: str) -> None:
        name = path.removesuffix("/versions/latest:access")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._google.unauthorised.append(path)
        found = self._google.secrets.get(name, 404)
        if isinstance(found, int):
            kind = {400: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED"}.get(found, "NOT_FOUND")
            self._answer(found, json.dumps({"error": {"code": found, "status": kind}}, indent=2))
            return
        data = base64.b64encode(found.encode()).decode()
        payload = {"data": data, "dataCrc32c": "123"}
        self._answer(200, json.dumps({"name": f"projects/1/secrets/{name}/versions/3", "payload": payload}, indent=2))

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def google() -> Iterator[Google]:
    google = Google(
        attributes={
            "deskterior-image": "asia-northeast3-docker.pkg.dev/team/deskterior:1.2.3",
            "deskterior-gpu": "yes",
            "deskterior-data": "no",
            "deskterior-uid": "1034",
            "deskterior-settings": "ENV=production\nPORT=8080",
            "deskterior-secrets": "OPENAI_API_KEY=deskterior-openai-api-key\n"
            "CALLBACK_SECRET=deskterior-callback-secret",
            "deskterior-database-ca": "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
        },
        secrets={"deskterior-openai-api-key": OPENAI_KEY},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, google))
    google.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield google
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Ran:
    code: int
    said: str
    runtime: Path
    docker: list[list[str]]

    @property
    def run(self) -> list[str]:
        (call,) = [call for call in self.docker if call[0] == "run"]
        return call


def _run(google: Google, folder: Path) -> Ran:
    runtime, programs, calls = folder / "run", folder / "bin", folder / "calls"
    runtime.mkdir()
    programs.mkdir()
    calls.touch()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "METADATA": f"{google.url}/metadata",
        "SECRETS": f"{google.url}/secrets",
        "RUNTIME_DIRECTORY": str(runtime),
        "CALLS": str(calls),
        "EXPECTED_TOKEN": TOKEN,
    }
    done = subprocess.run(
        ["bash", MACHINE / "run.sh"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    docker = [line.split("\0")[:-1] for line in calls.read_text().splitlines()]
    return Ran(done.returncode, done.stdout + done.stderr, runtime, docker)


def test_the_container_gets_the_gpu_and_no_right_that_it_does_not_need(google: Google, tmp_path: Path) -> None:
    run = _run(google, tmp_path).run
    text = " ".join(run)
    for option in (
        "--gpus all",
        "--read-only",
        "--user 1034",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--publish 8080:8080",
        "--stop-timeout 100",
        "--log-driver gcplogs",
        f"--env-file {tmp_path}/run/settings",
    ):
        assert option in text
    assert "--privileged" not in text
    assert run[run.index("--entrypoint") + 2] == "asia-northeast3-docker.pkg.dev/team/deskterior:1.2.3"
    assert run[-4:] == ["/entrypoint.sh", "serve", "--host", "0.0.0.0"]


def test_a_machine_without_a_gpu_asks_for_none_and_gets_its_disk(google: Google, tmp_path: Path) -> None:
    google.attributes |= {"deskterior-gpu": "no", "deskterior-data": "yes"}
    run = _run(google, tmp_path).run
    assert "--gpus" not in run
    assert "/mnt/disks/deskterior-data:/data" in run


def test_secrets_reach_the_service_whole_and_are_nowhere_else(google: Google, tmp_path: Path) -> None:
    ran = _run(google, tmp_path)
    file = ran.runtime / "secrets"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644  # in a directory that is root's alone
    read = subprocess.run(
        ["/bin/sh", "-c", f'set -a; . {file}; set +a; printf %s "$OPENAI_API_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout == OPENAI_KEY
    everywhere = ran.said + str(ran.docker) + (ran.runtime / "settings").read_text()
    assert "sk-it" not in everywhere
    assert TOKEN not in everywhere
    assert google.unauthorised == []
    unit = (MACHINE / "deskterior.service").read_text()
    assert "RuntimeDirectoryMode=0700" in unit


def test_the_service_reads_the_secrets_before_its_own_command_runs(google: Google, tmp_path: Path) -> None:
    ran = _run(google, tmp_path)
    words = ran.run[ran.run.index("-c") + 1 :]
    shell = words[0].replace("/run/secrets/deskterior", str(ran.runtime / "secrets"))
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", "sh", "-c", 'printf %s "$OPENAI_API_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == OPENAI_KEY


@pytest.mark.parametrize("status", [404, 400])
def test_a_secret_without_a_value_is_left_unset_and_named(google: Google, tmp_path: Path, status: int) -> None:
    google.secrets["deskterior-callback-secret"] = status
    ran = _run(google, tmp_path)
    assert "CALLBACK_SECRET is left unset: the secret deskterior-callback-secret has no enabled version" in ran.said
    assert "CALLBACK_SECRET" not in (ran.runtime / "secrets").read_text()
    assert ran.run


def test_a_secret_that_may_not_be_read_stops_the_start(google: Google, tmp_path: Path) -> None:
    google.secrets["deskterior-callback-secret"] = 403
    ran = _run(google, tmp_path)
    assert ran.code == 1
    assert "cannot start: Secret Manager answered 403 for deskterior-callback-secret" in ran.said
    assert [call for call in ran.docker if call[0] == "run"] == []


@pytest.mark.parametrize("missing", ["deskterior-image", "deskterior-secrets", "deskterior-settings"])
def test_a_machine_without_its_metadata_does_not_start(google: Google, tmp_path: Path, missing: str) -> None:
    del google.attributes[missing]
    ran = _run(google, tmp_path)
    assert ran.code != 0
    assert ran.docker == []


def test_the_token_is_shown_to_no_registry_but_googles(google: Google, tmp_path: Path) -> None:
    assert _run(google, tmp_path).docker[0][:2] == ["login", "-u"]
    google.attributes["deskterior-image"] = "docker-pkg.dev.example.com/deskterior:1.2.3"
    (tmp_path / "again").mkdir()
    ran = _run(google, tmp_path / "again")
    assert "login" not in [call[0] for call in ran.docker]
    assert ran.run


def test_the_unit_ends_as_the_container_does(google: Google, tmp_path: Path) -> None:
    ran = _run(google, tmp_path)
    assert ran.code == 7
    assert "started asia-northeast3-docker.pkg.dev/team/deskterior:1.2.3" in ran.said


def test_the_image_that_is_to_run_is_not_cleared_away_before_it_does(google: Google, tmp_path: Path) -> None:
    """Docker clears away every old image that no container has; a release may well be older than a week."""
    said = [" ".join(call[:2]) for call in _run(google, tmp_path).docker]
    (started,) = [index for index, call in enumerate(said) if call.startswith("run ")]
    assert said.index("image prune") > started


def test_the_unit_waits_for_the_container_to_drain() -> None:
    unit = (MACHINE / "deskterior.service").read_text()
    (docker,) = re.findall(r"docker stop -t (\d+)", unit)
    (systemd,) = re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert int(docker) == 100 < int(systemd)


def test_the_shell_scripts_have_no_known_faults() -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("shellcheck"), *sorted(MACHINE.glob("*.sh"))),
            *(DEPLOY / "image" / "standin.sh", DEPLOY.parent / ".ci" / "run"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""


def test_scripts_read_no_metadata_that_no_machine_has() -> None:
    asked = set(
        re.findall(r"attribute (deskterior-\w+(?:-\w+)*)", "".join(f.read_text() for f in MACHINE.glob("*.sh")))
    )
    given = set(re.findall(r"^\s*(deskterior-[\w-]+)\s*=", (DEPLOY / "gcp" / "machine.tf").read_text(), re.MULTILINE))
    assert given == asked
