"""One sandbox for all tests of this folder, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.app import create_app
from sandbox.serving import in_thread
from tests.integration.sandbox.stand import FAST, Stand


@pytest.fixture(scope="module")
def shared() -> Iterator[Stand]:
    app = create_app(FAST)
    with in_thread(app) as url:
        stand = Stand(url, app)
        yield stand
        stand.close()


@pytest.fixture
def stand(shared: Stand) -> Stand:
    shared.state.faults.clear()
    shared.state.ledger.clear()
    shared.state.callbacks.clear()
    shared.state.requests.clear()
    return shared
