"""The image as it is built and run: what is in it, what it may do, and that nothing is lost when it stops."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.image.image import SBOM
from deskterior import version
from tests.container.conftest import PORT, bring_outside, start_service
from tests.container.containers import HARDENED, TMP, Container, Place

SANDBOX = "http://127.0.0.1:8900"
KILL_MAIN = """
import os, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if (process / "cmdline").read_bytes().split(b"\\0")[1:3] == [b"/app/bin/bentoml", b"serve"]:
        os.kill(int(process.name), 9)
"""
DESK = "http://127.0.0.1:8000/desk.jpg"


def _config(place: Place, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.engine.run("image", "inspect", image, "--format", "{{json .Config}}"))
    return found


def _health_check(place: Place, image: str) -> list[str]:
    (found,) = json.loads(place.engine.run("image", "inspect", image))
    # podman tells of it apart from the rest.
    test: list[str] = (found.get("HealthCheck") or found.get("Healthcheck") or found["Config"]["Healthcheck"])["Test"]
    return test


def test_without_keys_it_does_not_start_and_says_so(place: Place, image: str) -> None:
    words = [place.engine.program, "run", "--rm", "--no-healthcheck", *HARDENED, *TMP, image]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).strip().splitlines()
    assert "API_KEYS is missing: ENV=production" in said[-1]
    assert "Traceback" not in "".join(said)


def test_it_is_ready_measured_and_healthy(running: Container, place: Place, image: str) -> None:
    assert running.ask("/readyz")[0] == 200
    assert "bentoml_" in running.ask("/metrics")[1]
    check = _health_check(place, image)
    assert check[0] == "CMD"
    assert running.exec(*check[1:]).returncode == 0
    assert running.exec(*check[1:], "/nowhere").returncode == 1
    assert running.exec(*check[1:], "/health", "9").returncode == 1


@pytest.mark.parametrize(("photo", "desk"), [("desk", True), ("dining_table", False)])
def test_a_photo_is_classified(running: Container, photo: str, desk: bool) -> None:
    address = f"http://127.0.0.1:8000/{photo}.jpg"
    status, text = running.ask("/classify", {"initial_image_url": address})
    assert (status, json.loads(text)) == (200, {"initial_image_url": address, "classify": desk})


def test_a_desk_is_made_over(running: Container) -> None:
    status, text = running.ask("/v1/generate", {"image_url": DESK})
    assert status == 200, text
    answer = json.loads(text)
    assert answer["products"]
    picture = answer["processed_image_url"].partition(PORT)[2]
    assert running.ask(picture)[0] == 200


def test_it_has_no_rights_to_spare(running: Container) -> None:
    assert running.sh("id -u; id -g") == "1034\n1034"
    for process in running.sh("cd /proc; ls -d [0-9]*").split():
        status = running.exec("cat", f"/proc/{process}/status").stdout
        if status:  # `ls` itself has ended
            facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert facts["Uid"].split() == ["1034"] * 4
            assert facts["CapEff"] == facts["CapPrm"] == "0" * 16
            assert facts["NoNewPrivs"] == "1"
    assert running.sh("ls /sys/class/net") == "lo"


def test_only_its_volumes_can_be_written(running: Container) -> None:
    script = "find / -xdev -writable ! -type l 2>/dev/null; touch /tmp/x /data/x && rm /tmp/x /data/x"
    assert set(running.sh(script).split()) <= {"/data", "/tmp", "/var/tmp", "/run"}
    for place in ("/", "/home/bentoml", "/home/bentoml/bento/src", "/app/bin"):
        assert "Read-only" in running.exec("touch", f"{place}/x").stderr
    owned = "find /app /home ! -user root -o -perm /022 ! -type l | head"
    assert running.sh(owned) == "", "the service could change what it is made of"


def test_the_service_tells_nobody_of_itself(running: Container) -> None:
    written = running.sh("find /tmp -name '*onnx*' -o -name '.ses' -o -name '*Microsoft*'")
    assert written == "", "ONNX Runtime gathers figures for its makers"


def test_nothing_that_serving_does_not_need_is_in_it(running: Container) -> None:
    assert running.sh("for p in gcc cc make uv curl git; do command -v $p; done; true") == ""
    assert running.exec("python", "-c", "import torch").returncode == 1
    carried = set(running.sh("ls /home/bentoml/bento/src").split())
    assert carried <= {
        "README.md", "VERSION", "__pycache__", "bentofile.yaml", "deskterior", "models", "requirements-serve.txt",
        "runners", "sandbox", "service.py",
    }  # fmt: skip
    assert running.sh("find / -xdev -path '*/.cache/*' -type f 2>/dev/null | head") == ""
    assert running.sh("find /app /home /var -name '*.deb' -o -name '*.whl' 2>/dev/null | head") == ""


def test_the_list_of_contents_is_valid_and_exactly_what_is_installed(running: Container, source: Path) -> None:
    text = running.sh(f"cat {SBOM}")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert (source / "build" / "deskterior-tested.cdx.json").read_text().strip() == text
    components = json.loads(text)["components"]
    listed = {component["purl"].partition("?")[0] for component in components}
    ask = (
        "import importlib.metadata as m\n"
        "for d in m.distributions(): print(f'pkg:pypi/{d.metadata[\"Name\"].lower()}@{d.version}')"
    )
    packages = set(running.exec("python", "-c", ask).stdout.split())
    packages |= set(running.exec("python3.11", "-I", "-c", ask).stdout.split())
    base = running.sh("for p in /usr/local/bin/python3.11 /usr/bin/python3.11; do [ -x $p ] && echo $p; done; true")
    for python in base.split():
        packages |= set(running.exec(python, "-I", "-c", ask).stdout.split())
    assert {name for name in listed if name.startswith("pkg:pypi/")} == {_escaped(name) for name in packages}
    debian = running.sh("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'").splitlines()
    named = {name.removeprefix("pkg:deb/debian/").partition("@")[0] for name in listed if name.startswith("pkg:deb/")}
    assert named == {line.split()[1].replace("+", "%2B") for line in debian if line.startswith("installed ")}
    assert "pkg:generic/desk_classifier@" in " ".join(listed)


def _escaped(purl: str) -> str:
    """As package URLs are written: no underscores in PyPI's names, and `+` escaped."""
    name, _, release = purl.partition("@")
    return f"{name.replace('_', '-')}@{release.replace('+', '%2B')}"


def test_a_key_is_made_with_it_before_there_are_any_settings(place: Place, image: str) -> None:
    words = ["python", "-m", "deskterior.keys", "make", "--name", "backend", "--scopes", "classify"]
    made = place.engine.run("run", "--rm", "--no-healthcheck", *HARDENED, *TMP, image, *words)
    assert made.startswith("dskt_")


def test_its_labels_say_what_it_is(place: Place, image: str) -> None:
    config = _config(place, image)
    labels: dict[str, str] = config["Labels"]
    open_containers = {
        name.rpartition("image.")[2]: value
        for name, value in labels.items()
        if name.startswith("org.opencontainers.image.")
    }
    assert open_containers["title"] == "deskterior"
    assert open_containers["version"] == version()
    assert open_containers["revision"]
    assert labels["deskterior.source.digest"].startswith("sha256:")
    assert config["User"] == "1034:1034"
    assert set(config["Volumes"]) == {"/data"}
    assert set(config["ExposedPorts"]) == {"8080/tcp"}


def test_a_runner_alone_is_the_same_image_with_other_words(place: Place, image: str) -> None:
    words = ["bentoml", "serve", "runners.desk_classifier:DeskClassifier", "--port=3000", "--host=0.0.0.0"]
    words.append("--working-dir=/home/bentoml/bento/src")
    runner = Container.start(place.engine, image, *words, ENV="development", RUNNER_TOKEN="t" * 40)
    try:
        runner.wait_ready("/readyz", "3000")
        place.engine.run("stop", "--time", "60", runner.name)
        assert runner.wait() == 0
    finally:
        runner.remove()


def test_nothing_is_lost_when_it_stops(place: Place, image: str, volume: str) -> None:
    """A request that is under way is answered, and a job that is under way ends well in the next life."""
    service = start_service(place, image, volume, latency="chat=2,images=60")
    try:
        service.wait_ready()
        status, text = service.ask("/v1/generate", {"image_url": DESK, "concept": "OIL"}, "respond-async")
        assert status == 202, text
        task = json.loads(text)["id"]
        answers: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: answers.append(service.ask("/v1/prompt", {"image_url": DESK})))
        service.ask(f"{SANDBOX}/ledger?at_least=2&timeout=30")  # described, and being drawn
        client.start()
        service.ask(f"{SANDBOX}/ledger?at_least=3&timeout=30")
        place.engine.run("stop", "--time", "100", service.name)
        client.join(60)
        assert service.wait() == 0, service.log()[-2000:]
        assert [code for code, _ in answers] == [200], answers

        place.engine.run("start", service.name)
        bring_outside(service)
        service.wait_ready()
        ended = _ended(service, task)
        assert ended["status"] == "succeeded", ended
        assert ended["result"]["processed_image_url"]
    finally:
        service.remove()


def test_killed_it_leaves_nobody_behind(running: Container) -> None:
    """The last test: it ends the container that the others look at."""
    running.exec("python", "-c", KILL_MAIN)
    assert running.wait() == 128 + 9
    assert not running.state["Running"]


def _ended(service: Container, task: str) -> dict[str, Any]:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        found: dict[str, Any] = json.loads(service.ask(f"/tasks/{task}")[1])
        if found["status"] in {"succeeded", "failed", "cancelled"}:
            return found
        time.sleep(0.5)
    raise AssertionError(f"the task does not end: {found}")
