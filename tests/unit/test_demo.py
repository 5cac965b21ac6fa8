"""The demo's own input: photos as a person types them after `make demo PHOTO=`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.__main__ import split
from demo.running import ROOT


def test_a_path_with_blanks_is_one_photo(tmp_path: Path) -> None:
    photo = tmp_path / "내 책상.jpg"
    photo.write_bytes(b"")
    assert split(str(photo)) == [str(photo)]
    assert split(f"'{photo}' https://a.example/b.jpg?x=1&y=$2") == [str(photo), "https://a.example/b.jpg?x=1&y=$2"]


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_no_photo(text: str) -> None:
    assert split(text) == []


def test_an_open_quotation_mark_is_part_of_a_name() -> None:
    assert split("mum's desk.jpg") == ["mum's", "desk.jpg"]


@pytest.mark.parametrize("photo", ["https://a.example/b.jpg?x=1&y=$2;z='q'", "a photo.jpg `touch x`"])
def test_make_hands_photos_over_as_they_were_typed(photo: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf %s "$PHOTO"\n')
    python.chmod(0o755)
    command = ["make", "-s", "-o", ".venv/.serve", "demo", f"BIN={tmp_path / 'bin'}", f"PHOTO={photo}"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == photo


def test_a_photo_that_is_not_there_is_named() -> None:
    env = {**os.environ, "PHOTO": "nowhere[1].jpg"}
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere[1].jpg" in done.stdout
