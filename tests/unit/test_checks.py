"""The checks beside style and types: they find what they are for, and say when they could not look."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from checks import audit, secrets

AWS_KEY = "AKIA" + "J7QW3ERT5YUI" + "OP2K"
FOUND = [
    ("deskterior/a.py", f'KEY = "{AWS_KEY}"\n'),
    ("tests/unit/test_a.py", f'KEY = "{AWS_KEY}"\n'),
    ("tests/unit/test_b.py", 'KEY = "sk-proj-' + "Ab1" * 16 + "T3BlbkFJ" + "Cd2" * 16 + '"\n'),
    ("models/card.json", f'{{"key": "{AWS_KEY}"}}\n'),
    ("docs/c.md", "curl -H 'X-API-Key: dskt_0ce97a46e193_" + "67aaea95af3cff5c" * 4 + "'\n"),
    ("docs/a.md", "-----BEGIN RSA PRIVATE " + "KEY-----\n"),
    ("docs/b.md", "see /home/" + "alice/project/x.py\n"),
    ("deploy/a.env", "DATABASE_URL=postgresql://app:" + "w8Kq2mZr@db/jobs\n"),
    ("requirements-x.txt", "--extra-" + "index-url https://packages.example/simple\n"),
    ("a.py", "password = 'w8Kq2m" + "ZrT5vX'\n"),
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(secrets, "ROOT", tmp_path)
    monkeypatch.setattr(secrets, "BASELINE", tmp_path / ".secrets.baseline")
    monkeypatch.setattr(secrets, "FINE", tmp_path / ".cache" / "no-secrets")
    monkeypatch.setattr("sys.argv", ["checks.secrets"])
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(("name", "text"), FOUND, ids=[name for name, _ in FOUND])
def test_a_secret_or_a_machine_in_a_file_fails_the_check(
    checkout: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    put(checkout, name, "# one line\n" + text)
    assert secrets.main() == 1
    assert secrets.main() == 1, "also the second time"
    said = capsys.readouterr().out
    assert f"{name}:2: " in said
    assert "w8Kq2mZr" not in said, "the secret itself is not printed"


def test_what_is_none_passes(checkout: Path) -> None:
    put(checkout, "a.py", 'TOKEN_SETTING = "RUNNER_TOKEN"\nurl = "https://example.com/x?y=1"\n# /home/app/data\n')
    put(checkout, "tests/unit/test_a.py", 'secret = "canaryRunner7f3a9c51e8d24b60"\nurl = "http://u:pw@host/x"\n')
    put(checkout, "models/card.json", '{"sha256": "' + "0f1e2d3c4b5a6978" * 4 + '"}\n')
    put(checkout, "requirements.txt", "a==1 \\\n    --hash=sha256:" + "0123456789abcdef" * 4 + "\n")
    assert secrets.main() == 0


def test_what_was_accepted_passes_wherever_it_moves_in_its_file_and_nowhere_else(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, text = FOUND[0]
    put(checkout, name, text)
    monkeypatch.setattr("sys.argv", ["checks.secrets", "--accept"])
    assert secrets.main() == 0
    monkeypatch.setattr("sys.argv", ["checks.secrets"])
    assert AWS_KEY not in (checkout / ".secrets.baseline").read_text()
    put(checkout, name, "\n\n\n" + text)
    assert secrets.main() == 0
    put(checkout, "deskterior/b.py", text)
    assert secrets.main() == 1


def test_a_checkouts_own_path_is_found(checkout: Path) -> None:
    put(checkout, "a.md", f"run it in {checkout}/x\n")
    assert secrets.main() == 1


def report(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": list(packages)})


def test_holes_are_told_with_what_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hole = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}
    told = report({"name": "a", "version": "2.0", "vulns": [hole]}, {"name": "b", "version": "1", "vulns": []})
    assert audit.judge(told) == (["a 2.0: PYSEC-1, mended in 2.1"], [], 2)
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-1": "we do not call it"})
    assert audit.judge(told) == ([], [], 2)


def test_packages_that_nobody_could_tell_of_are_not_called_fine() -> None:
    assert audit.judge(report({"name": "a", "skip_reason": "not found"})) == ([], ["a"], 0)


def test_without_advisories_the_audit_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "ADVISORIES", "http://127.0.0.1:1/{}/{}/json")
    monkeypatch.setattr(audit, "stamp", lambda: tmp_path / "none")
    assert audit.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("checks.audit: NOT CHECKED")
    assert said.count("\n") == 1
    assert not (tmp_path / "none").exists()
