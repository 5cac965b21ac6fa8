"""Classifies photos through a real service on loopback, and prints what it says: `python -m demo [PATH-or-URL ...]`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from demo.running import ROOT, ServiceDied, photo_server, service

OUTPUT = ROOT / "demo-output"
SAMPLES = sorted((ROOT / "samples").glob("*.jpg"))


@dataclass(frozen=True)
class Verdict:
    photo: str
    desk: bool | None
    score: str
    seconds: float
    problem: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("photo", nargs="*", help="paths or http(s) addresses; the project's samples when none is given")
    given: list[str] = parser.parse_args().photo
    console = Console()
    paths = SAMPLES if not given else [Path(photo).expanduser() for photo in given if "://" not in photo]
    urls = [photo for photo in given if "://" in photo]
    if missing := [str(path) for path in paths if not path.is_file()]:
        console.print(f"[red]There is no such photo: {', '.join(missing)}[/]")
        return 2
    OUTPUT.mkdir(exist_ok=True)
    hosts = {"127.0.0.1", *(urlsplit(url).hostname or "" for url in urls)}
    environment = {
        "ENV": "development",
        "PHOTO_ALLOWED_HOSTS": ",".join(sorted(hosts)),
        "STORAGE_DIR": str(OUTPUT / "storage"),
        "DATABASE_URL": f"sqlite:///{OUTPUT / 'jobs.sqlite'}",
    }
    try:
        with ExitStack() as stack:
            served = stack.enter_context(photo_server(paths))
            started = time.perf_counter()
            with console.status("Starting the service …"):
                base = stack.enter_context(service(OUTPUT / "service.log", **environment))
            console.print(f"The service was ready after {time.perf_counter() - started:.1f} s, at {base}")
            verdicts = classify(base, [(path.name, served[path]) for path in paths] + [(url, url) for url in urls])
            console.print(_table(verdicts))
    except ServiceDied as error:
        console.print(f"[red]{error}[/]")
        return 1
    return 1 if any(verdict.desk is None for verdict in verdicts) else 0


def classify(base: str, photos: list[tuple[str, str]]) -> list[Verdict]:
    verdicts = []
    with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
        for name, url in photos:
            started = time.perf_counter()
            answer = client.post("/classify", json={"initial_image_url": url})
            seconds = time.perf_counter() - started
            body = answer.json()
            if answer.status_code == 200:
                verdicts.append(Verdict(name, body["classify"], answer.headers["X-Desk-Score"], seconds))
            else:
                problem = f"{answer.status_code} {body['title']}: {body['detail']}"
                verdicts.append(Verdict(name, None, "", seconds, problem))
    return verdicts


def _table(verdicts: list[Verdict]) -> Table:
    table = Table("photo", "verdict", "score", "time", title="Is it a desk?")
    for verdict in verdicts:
        said = verdict.problem or ("[green]desk[/]" if verdict.desk else "not a desk")
        table.add_row(verdict.photo, said, verdict.score, f"{verdict.seconds * 1000:.0f} ms")
    return table


if __name__ == "__main__":
    sys.exit(main())
