"""The main job on real input: `python -m demo [PATH-or-URL ...] [--concept OIL]`.

Starts the service with embedded defaults, classifies the photos, makes the first desk over, and leaves the pictures and
the JSON in demo-output/. With OPENAI_API_KEY set, OpenAI draws, and it costs; without, the sandbox does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from demo.running import ROOT, ServiceDied, photo_server, service
from demo.steps import Failed, classify, make_over, show_makeover, show_verdicts
from deskterior.schemas import Concept
from sandbox import serving

OUTPUT = ROOT / "demo-output"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("photo", nargs="*", help="paths or http(s) addresses; the project's samples when none is given")
    parser.add_argument("--concept", type=Concept, choices=list(Concept), default=Concept.CARTOON)
    given = parser.parse_args()
    console = Console()
    photos = given.photo or split(os.environ.get("PHOTO", ""))
    paths = [Path(photo).expanduser() for photo in photos if "://" not in photo]
    urls = [photo for photo in photos if "://" in photo]
    if not photos:
        paths = sorted((ROOT / "samples").glob("*.jpg"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        console.print(f"There is no such photo: {', '.join(missing)}", style="red", markup=False)
        return 2
    OUTPUT.mkdir(exist_ok=True)
    try:
        with ExitStack() as stack:
            served = stack.enter_context(photo_server(paths))
            shown = [(path.name, served[path]) for path in paths] + [(url, url) for url in urls]
            started = time.perf_counter()
            with console.status("Starting the service …"):
                sandbox, _ = stack.enter_context(serving.in_process())
                environment = _environment(sandbox, {"127.0.0.1", *(urlsplit(url).hostname or "" for url in urls)})
                base = stack.enter_context(service(OUTPUT / "service.log", **environment))
            console.print(f"The service was ready after {time.perf_counter() - started:.1f} s, at {base}")
            verdicts = classify(base, shown)
            show_verdicts(console, verdicts)
            if desk := next((verdict for verdict in verdicts if verdict.desk), None):
                with console.status(f"Making {desk.photo} over, {given.concept} …"):
                    makeover = make_over(base, sandbox, desk.url, given.concept, OUTPUT)
                show_makeover(console, makeover, OUTPUT)
            else:
                console.print("None of the photos shows a desk, so nothing is made over.")
    except (ServiceDied, Failed) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    return 1 if any(verdict.desk is None for verdict in verdicts) else 0


def split(text: str) -> list[str]:
    """Paths and addresses between blanks. A path with blanks stands alone, or in quotation marks."""
    if Path(text).expanduser().is_file():
        return [text]
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark that is never closed
        return text.split()


def _environment(sandbox: str, hosts: set[str]) -> dict[str, str]:
    """Embedded defaults; what the user has set for the outside services and the callback stays."""
    return {
        "ENV": "development",
        "PHOTO_ALLOWED_HOSTS": ",".join(sorted(hosts - {""})),
        "STORAGE_DIR": str(OUTPUT / "storage"),
        "DATABASE_URL": f"sqlite:///{OUTPUT / 'jobs.sqlite'}",
        "SANDBOX_URL": sandbox,
        "CALLBACK_URL": os.environ.get("CALLBACK_URL") or f"{sandbox}/backend/callback",
    }


if __name__ == "__main__":
    sys.exit(main())
