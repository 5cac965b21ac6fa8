"""Serves one runner on a given socket: `python -m runners.serve runners.desk_classifier:DeskClassifier --fd 5`.

What `bentoml serve` does for a service with one worker, in one process instead of two, for `runners.launcher`. By hand,
or on another machine, a runner is started by `bentoml serve` itself.
"""

from __future__ import annotations

import argparse
import importlib
import socket

from deskterior.telemetry import folder

KEEP_ALIVE_S = 75
"""Longer than any client keeps an idle connection, so that it is never the server that hangs up on a request."""
DRAIN_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="runners.serve", description="Serve one runner on an inherited socket.")
    parser.add_argument("service", help="module:Service")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket")
    given = parser.parse_args()
    folder.share()
    folder.use()
    import uvicorn

    module, _, name = given.service.partition(":")
    service = getattr(importlib.import_module(module), name)
    config = uvicorn.Config(
        service.to_asgi(is_main=True),  # the main service takes no pickles
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    with socket.socket(fileno=given.fd) as sock:
        uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
