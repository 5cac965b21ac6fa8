"""Work that blocks, and may never end."""

from __future__ import annotations

import threading

import pytest

from deskterior.background import finish


async def test_what_ends_is_waited_for() -> None:
    done: list[str] = []
    assert await finish(lambda: done.append("done"), name="short", within_s=None)
    assert done == ["done"]


async def test_what_never_ends_is_left_to_itself() -> None:
    go_on = threading.Event()
    assert not await finish(go_on.wait, name="long", within_s=0.01)
    (thread,) = [each for each in threading.enumerate() if each.name == "long"]
    assert thread.daemon, "the end of the process does not wait for it"
    go_on.set()
    thread.join()


@pytest.mark.parametrize("error", [ValueError("broken"), TimeoutError("its own")])
async def test_what_fails_says_so(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await finish(fail, name="failing", within_s=60)
