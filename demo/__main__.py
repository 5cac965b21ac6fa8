"""The main job on real input: `python -m demo [PATH-or-URL ...] [--concept OIL]`.

Starts the service with embedded defaults, classifies the photos, makes the first desk over, and leaves the pictures and
the JSON in demo-output/. With OPENAI_API_KEY set, OpenAI draws, and it costs; without, the sandbox does. With --v2 our
own model draws, step by step: that of CUSTOM_MODEL_DIR, or a tiny one made on the spot.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from demo.running import ROOT, ServiceDied, photo_server, service
from demo.steps import Failed, Kind, classify, make_over, show_makeover, show_verdicts
from deskterior.schemas import Concept
from sandbox import serving

OUTPUT = ROOT / "demo-output"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("photo", nargs="*", help="paths or http(s) addresses; the project's samples when none is given")
    parser.add_argument("--concept", type=Concept, choices=list(Concept), default=Concept.CARTOON)
    parser.add_argument("--v2", action="store_true", help="draw with our own model")
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
            model = _own_model(console) if given.v2 else {}
            started = time.perf_counter()
            with console.status("Starting the service …"):
                sandbox, _ = stack.enter_context(serving.in_process())
                environment = _environment(sandbox, {"127.0.0.1", *(urlsplit(url).hostname or "" for url in urls)})
                base = stack.enter_context(service(OUTPUT / "service.log", **environment, **model))
            console.print(f"The service was ready after {time.perf_counter() - started:.1f} s, at {base}")
            verdicts = classify(base, shown)
            show_verdicts(console, verdicts)
            if desk := next((verdict for verdict in verdicts if verdict.desk), None):
                with console.status(f"Making {desk.photo} over, {given.concept} …") as status:
                    kind: Kind = "v2" if given.v2 else "v1"
                    tell = status.update if console.is_terminal else console.print
                    makeover = make_over(base, sandbox, desk.url, given.concept, OUTPUT, kind, tell)
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


def _own_model(console: Console) -> dict[str, str]:
    """The settings that place our own model in the service. Raises Failed when there is none and none can be made."""
    folder = os.environ.get("CUSTOM_MODEL_DIR")
    if not folder:
        folder = str(OUTPUT / "model")
        with console.status("Making a tiny drawing model …"):
            make = [sys.executable, "-m", "training", "tiny", "--out", str(OUTPUT / "model" / "tiny")]
            made = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
        if made.returncode:
            raise Failed(f"No tiny drawing model could be made:\n{(made.stderr or made.stdout)[-2000:]}")
        console.print("Our own model is a tiny one of random weights: it shows the way, not the art.")
    return {"CUSTOM_MODEL_DIR": folder, "CUSTOM_RUNNER": os.environ.get("CUSTOM_RUNNER") or "embedded"}


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
