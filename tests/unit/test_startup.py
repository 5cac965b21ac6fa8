"""What a main process says when it cannot begin."""

from __future__ import annotations

import socket
import subprocess
import sys

from deskterior.config import ROOT

LISTENS = """
import sys
from circus.sockets import CircusSocket
from deskterior.startup import be_main
be_main()
CircusSocket(name="api", host="127.0.0.1", port=int(sys.argv[1])).bind_and_listen()
"""


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", LISTENS, str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]  # after circus' own, which has the address
    assert said.startswith("Deskterior does not start. It cannot listen at")
    assert said.endswith("Address already in use")


def test_any_other_error_is_told_as_ever() -> None:
    program = LISTENS.replace("CircusSocket(", "open('/nowhere/at/all') and CircusSocket(")
    done = subprocess.run([sys.executable, "-c", program, "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert "/nowhere/at/all" in done.stderr.splitlines()[-1]
