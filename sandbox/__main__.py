"""`python -m sandbox`: the stand-ins on one address, until Ctrl-C. The first line printed ends with that address."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.app import create_app
from sandbox.control import ABOUT
from sandbox.serving import serve
from sandbox.state import Latency, Options


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=ABOUT)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8900, help="0 is any free one; it is printed")
    parser.add_argument("--ledger", type=Path, metavar="FILE.jsonl", help="keeps the ledger of paid calls across kills")
    parser.add_argument(
        "--latency", type=_latency, default=Latency(), metavar="SECONDS", help="of every call, or chat=1,images=8"
    )
    parser.add_argument("--retired", choices=["serve", "refuse"], default="serve", help="models OpenAI has shut down")
    parser.add_argument("--naver-per-second", type=int, metavar="N", help="searches a second, beyond it 429")
    parser.add_argument("--callback-secret", metavar="whsec_...", help="callbacks must be signed with it")
    parser.add_argument("--callback-format", choices=["nested", "flat"], help="the one shape accepted")
    given = parser.parse_args(arguments)
    try:
        app = create_app(
            Options(
                latency=given.latency,
                retired=given.retired,
                naver_per_second=given.naver_per_second,
                callback_secret=given.callback_secret,
                callback_format=given.callback_format,
                ledger_file=given.ledger,
            )
        )
    except ValueError as error:
        parser.error(f"--callback-secret: {error}")

    def announce(url: str) -> None:
        print(f"{ABOUT} {url}", flush=True)
        print(f"  OPENAI_BASE_URL={url}/openai/v1  NAVER_BASE_URL={url}/naver  CALLBACK_URL={url}/backend/callback")
        print(f"  faults: POST {url}/faults   paid calls: GET {url}/ledger", flush=True)

    try:
        serve(app, given.host, given.port, announce)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"cannot listen on {given.host}:{given.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _latency(text: str) -> Latency:
    try:
        return Latency.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
