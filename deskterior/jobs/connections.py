"""The open connections of one engine to Postgres, so that they can be cut off.

A server that hangs accepts, and never answers; TCP sees nothing wrong with it. A thread that waits for it waits for
ever, and a process with such a thread never ends. The only way to wake it is to shut its socket.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg
import sqlalchemy as sa


class CutOff(Exception):
    """This process has hung up, and calls no more. No error of the database's, so nobody tries again."""


class Connections:
    """Watches an engine from its first connection on."""

    def __init__(self, engine: sa.Engine) -> None:
        self._open: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._lock = threading.Lock()
        self._cut = False
        sa.event.listen(engine, "connect", self._remember)
        sa.event.listen(engine, "do_connect", self._refuse)

    def cut(self) -> None:
        """End whatever waits for an answer, with the error of a lost connection, and open none any more."""
        with self._lock:
            self._cut = True
            left = list(self._open)
        for connection in left:
            _shut(connection)

    def _remember(self, connection: psycopg.Connection[Any], _: object) -> None:
        with self._lock:
            self._open.add(connection)
            cut = self._cut
        if cut:
            _shut(connection)

    def _refuse(self, *_: object) -> None:
        if self._cut:
            raise CutOff("this process has hung up on the database")


def _shut(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error, OSError):  # it has been closed
        shared = socket.socket(fileno=socket.dup(connection.fileno()))
        with shared:
            shared.shutdown(socket.SHUT_RDWR)
