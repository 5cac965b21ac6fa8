"""A backend in Java (Spring's RestTemplate, a strict Jackson) calls the service."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "java"
JARS = Path("/usr/share/java")


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs a compiled client."""
    missing = not shutil.which("javac") or not (JARS / "spring3-web.jar").exists()
    if missing and not os.environ.get("CI"):
        pytest.skip("no Java client here: as root, `make java` installs a JDK, Spring and Jackson")
    classes = tmp_path_factory.mktemp("classes")
    path = f"{JARS}/*"
    subprocess.run(["javac", "-nowarn", "-cp", path, "-d", str(classes), *map(str, SOURCE.glob("*.java"))], check=True)
    return ["java", "-cp", f"{classes}:{path}"]


def test_a_strict_java_client_understands_every_answer(java: list[str], base: str, photos: dict[str, str]) -> None:
    command = [*java, "Client", base, photos["desk"], photos["dining_table"]]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "/classify true",
        "/classify false",
        "/app/routers/classify true",
        "/app/routers/classify false",
        "problem 422 /problems/photo-unreachable",
        "problem 422 /problems/validation",
        "problem 404 /problems/not-found",
        "problem 405 /problems/method-not-allowed",
        "health healthy",
    ]
