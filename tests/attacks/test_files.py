"""Files that are no photo or worse: the wire's answer, and what answering it costs."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.attacks.attack import ACCEPTED
from tests.attacks.files import FILES, File
from tests.attacks.world import world
from tests.websites import Visit

URL = "http://photos.test/desk.jpg"


@pytest.mark.parametrize("attack", FILES, ids=lambda attack: attack.name)
async def test_a_hostile_file_is_answered_by_name(attack: File) -> None:
    data = attack.make()

    async def answer(visit: Visit) -> None:
        await visit.answer(data)

    async with world(answer, max_bytes=25_000_000) as here:
        before = time.process_time()
        assert await here.classify(URL) == attack.answer
        assert time.process_time() - before < max(5, 10 * attack.seconds)  # of processor time, and far from it
        assert here.desk.shown == (attack.answer == ACCEPTED)


def test_no_file_on_the_list_makes_the_decoder_large(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a process of its own, whose peak nothing else has raised; the files one after another, least hungry first."""
    code = "from tests.attacks.test_files import peaks; peaks()"
    # From a shell: a process begins with the peak of the one that started it, and this one is large.
    apart = ["sh", "-c", '"$@"; exit $?', "apart"]
    done = subprocess.run(
        [*apart, sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def peaks() -> None:
    """Decode every file; SystemExit for one that took more memory than it may."""
    from deskterior.decoding import decode
    from deskterior.errors import PhotoError

    for attack in sorted(FILES, key=lambda one: one.megabytes):
        data = attack.make()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with suppress(PhotoError):
            decode(data)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        if grown > attack.megabytes:
            raise SystemExit(f"{attack.name}: {grown} MB where {attack.megabytes} are allowed")
