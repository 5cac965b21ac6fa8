"""The job store says what is wrong with it, and how to mend it, before anything else is started."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from deskterior.jobs.database import Database, DatabaseAway, DatabaseError
from deskterior.makeover.tables import metadata


def test_the_folder_of_a_new_file_is_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/not/there/jobs.sqlite")
    database.create(metadata)
    database.create(metadata)
    database.close()

    assert (tmp_path / "not" / "there" / "jobs.sqlite").exists()


@pytest.mark.parametrize("url", ["postgresql://desk:hun:ter@2@host:x/jobs", "postgresql://[::1/jobs", "hunter2"])
def test_an_address_that_is_none_is_named_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseError, match="DATABASE_URL") as raised:
        Database(url)
    assert "hun" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:"])
def test_a_store_in_memory_is_none(url: str) -> None:
    with pytest.raises(DatabaseError, match="outlives"):
        Database(url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match="DATABASE_URL"):
        Database(f"sqlite:///{tmp_path}/file/jobs.sqlite")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("no database " * 100)
    with pytest.raises(DatabaseError, match="DATABASE_URL"):
        Database(f"sqlite:///{tmp_path}/jobs.sqlite").create(metadata)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    database = Database("postgresql://desk:hunter2@127.0.0.1:1/jobs?connect_timeout=2")
    with pytest.raises(DatabaseError, match="DATABASE_URL") as raised:
        database.create(metadata)
    database.close()

    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(raised.value.__cause__)


def test_a_database_of_a_newer_release_is_left_alone(database_url: str) -> None:
    database = Database(database_url)
    database.create(metadata)
    database.execute_now(sa.table("deskterior_schema", sa.column("version")).insert().values(version=99))

    with pytest.raises(DatabaseError, match="newer"):
        database.create(metadata)
    database.close()


async def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    database = Database(database_url)
    table = sa.Table("things", sa.MetaData(), sa.Column("name", sa.String(10)))
    database.write_now(lambda c: table.create(c))

    def fail(connection: sa.Connection) -> None:
        connection.execute(table.insert().values(name="half"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail, durable=True)

    assert await database.read(lambda c: c.execute(sa.select(table)).all()) == []
    database.close()


async def test_a_store_that_is_locked_is_away_and_says_so(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    database.create(metadata)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")  # of the one connection that the pool has so far
    holder = sqlite3.connect(tmp_path / "jobs.sqlite")
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(DatabaseAway) as raised:
        await database.execute(sa.table("makeover_tasks").delete())

    assert "locked" in raised.value.internal
    assert "locked" not in raised.value.detail
    assert raised.value.retry_after
    holder.close()
    database.close()


async def test_a_store_that_hangs_is_away_to_those_who_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deskterior.jobs.database.ANSWER_WITHIN_S", 0.01)
    goes_on = threading.Event()
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    with pytest.raises(DatabaseAway, match="try again"):
        await database.read(lambda _: goes_on.wait())
    goes_on.set()
    database.close()


async def test_a_store_that_answers_others_is_waited_for_however_long_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deskterior.jobs.database.ANSWER_WITHIN_S", 1.5)
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")

    def slowly(_: sa.Connection) -> bool:
        time.sleep(0.2)
        return True

    assert all(await asyncio.gather(*(database.write(slowly) for _ in range(10))))
    database.close()


async def test_what_was_given_up_is_undone_when_it_goes_on_which_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    table = sa.Table("things", sa.MetaData(), sa.Column("name", sa.String(10)))
    database.write_now(lambda c: table.create(c))
    goes_on = threading.Event()

    def write(connection: sa.Connection) -> None:
        connection.execute(table.insert().values(name="late"))
        goes_on.wait()

    with monkeypatch.context() as patience:
        patience.setattr("deskterior.jobs.database.ANSWER_WITHIN_S", 0.01)
        with pytest.raises(DatabaseAway):
            await database.write(write)
        goes_on.set()
        database.close()  # it comes to its end
        assert not database._silent
    again = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    assert await again.read(lambda c: c.execute(sa.select(table)).all()) == []
    again.close()


def test_a_server_that_is_gone_is_not_waited_for_without_end() -> None:
    """What libpq is told, in the address that DBOS is given too; whoever says otherwise in DATABASE_URL is heard."""
    database = Database("postgresql://desk@db.example/jobs?tcp_user_timeout=5000&sslmode=require")
    assert database.url.query["tcp_user_timeout"] == "5000"
    assert database.url.query["sslmode"] == "require"
    assert {"connect_timeout", "keepalives_idle"} <= database.url.query.keys()
    database.close()


async def test_a_file_that_was_deleted_or_replaced_under_the_service_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    database = Database(f"sqlite:///{path}")
    try:
        await database.check()
        path.rename(tmp_path / "aside")
        with pytest.raises(DatabaseAway):
            await database.check()
        path.write_bytes((tmp_path / "aside").read_bytes())
        with pytest.raises(DatabaseAway):
            await database.check()
        path.unlink()
        (tmp_path / "aside").rename(path)
        await database.check()
    finally:
        database.close()
