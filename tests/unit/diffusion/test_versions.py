"""The versions in the folder of the drawing model, read without torch."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from runners.diffusion.versions import Digests, ModelFolder, Version, VersionUnusable
from tests.unit.diffusion.files import tensors, write


def test_nothing_is_installed_where_nothing_is(tmp_path: Path) -> None:
    for folder in (ModelFolder(tmp_path), ModelFolder(tmp_path / "missing")):
        assert (folder.versions(), folder.active(), folder.stray()) == ([], None, "")
        folder.fingerprint()
    (tmp_path / "README.md").write_text("put it here")
    (tmp_path / ".cache").mkdir()
    assert ModelFolder(tmp_path).active() is None


def test_a_single_version_needs_no_file_and_several_do(tmp_path: Path) -> None:
    write(tmp_path / "one")
    folder = ModelFolder(tmp_path)
    assert folder.active() == Version("one", tmp_path / "one")
    (tmp_path / "half-copied").mkdir()
    assert folder.active() == Version("one", tmp_path / "one")
    write(tmp_path / "two")
    with pytest.raises(VersionUnusable, match=r"none is active: one, two.*activate"):
        folder.active()
    folder.activate("two")
    assert folder.active() == Version("two", tmp_path / "two")
    assert (tmp_path / "active").read_text() == "two\n"
    assert not list(tmp_path.glob(".active*"))


def test_names_are_of_any_script_and_what_is_no_name_is_said(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    write(tmp_path / "sdxl turbo (1)")
    assert folder.versions() == []
    assert "'sdxl turbo (1)' is no version by its name" in folder.stray()
    write(tmp_path / "책상_2.1")
    folder.activate("책상_2.1")
    assert folder.active() == Version("책상_2.1", tmp_path / "책상_2.1")


def test_a_name_is_the_same_however_its_letters_are_put_together(tmp_path: Path) -> None:
    for name in ("책상", "café"):
        write(tmp_path / unicodedata.normalize("NFD", name))  # as macOS copies it
    folder = ModelFolder(tmp_path)
    assert [version.name for version in folder.versions()] == ["café", "책상"]
    assert folder.stray() == ""
    folder.activate("책상")
    assert folder.active() == Version("책상", tmp_path / unicodedata.normalize("NFD", "책상"))
    (tmp_path / "active").write_text(unicodedata.normalize("NFD", "café"), "utf-8")
    assert folder.active() == folder.version("café")


@pytest.mark.parametrize("named", ["three", "../one", "/etc", "one/../one", "\0", "x" * 500, "\xff"])
def test_a_name_that_nothing_has_is_refused_with_those_that_are(tmp_path: Path, named: str) -> None:
    write(tmp_path / "one")
    (tmp_path / "active").write_text(named, "utf-8")
    folder = ModelFolder(tmp_path)
    with pytest.raises(VersionUnusable, match=r"there are: one$"):
        folder.active()
    for change in (folder.activate, folder.remove):
        with pytest.raises(VersionUnusable, match=r"there are: one$"):
            change(named)


def test_the_folder_itself_may_be_the_checkpoint(tmp_path: Path) -> None:
    folder = ModelFolder(write(tmp_path / "sdxl"))
    assert folder.active() == Version("sdxl", tmp_path / "sdxl")
    for change in (folder.activate, folder.remove):
        with pytest.raises(VersionUnusable, match="itself"):
            change("sdxl")
    assert (tmp_path / "sdxl" / "model_index.json").exists()


def test_the_active_version_is_not_removed_and_others_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name)
    folder = ModelFolder(tmp_path)
    folder.activate("one")
    with pytest.raises(VersionUnusable, match="activate another"):
        folder.remove("one")
    folder.remove("two")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["active", "one"]


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "model")
    write(tmp_path / "models" / "one")
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "elsewhere" / "model")
    folder = ModelFolder(tmp_path / "models")
    folder.activate("one")
    folder.remove("linked")
    assert (tmp_path / "elsewhere" / "model" / "model_index.json").exists()


def test_every_change_of_a_file_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "one")
    folder = ModelFolder(tmp_path)
    seen = {folder.fingerprint()}

    def changed() -> None:
        assert folder.fingerprint() not in seen
        seen.add(folder.fingerprint())

    (tmp_path / "active").write_text("one")
    changed()
    (path / "deskterior.toml").write_text("side = 512")
    changed()
    (path / "unet" / "config.json").unlink()
    changed()
    (path / "dangling").symlink_to(path / "nowhere")
    changed()
    write(tmp_path / "two")
    changed()
    assert folder.fingerprint() in seen


def test_a_digest_is_of_all_files_and_is_not_read_twice(tmp_path: Path) -> None:
    digests = Digests()
    version = Version("one", write(tmp_path / "one"))
    first = digests.of(version)
    assert first.startswith("sha256:")
    assert digests.of(Version("two", write(tmp_path / "two"))) == first  # the name of a folder is nothing
    weights = version.path / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.stat()
    weights.write_bytes(tensors()[:-1] + b"\1")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.of(version) == first  # neither size nor time has changed
    os.utime(weights)
    changed = digests.of(version)
    assert changed not in {first, ""}
    (version.path / "gone").symlink_to(tmp_path / "nowhere")
    assert digests.of(version) == ""


def test_a_digest_waits_for_no_pipe_and_knows_names_that_are_not_utf_8(tmp_path: Path) -> None:
    one, two = Version("one", write(tmp_path / "one")), Version("two", write(tmp_path / "two"))
    with Path(os.fsdecode(os.fsencode(one.path) + b"/\xc7\xd1.txt")).open("w"):  # Korean, by an old ZIP
        pass
    assert Digests().of(one).startswith("sha256:")
    os.mkfifo(two.path / "pipe")
    assert Digests().of(two) == ""


def test_a_digest_is_given_up_when_the_process_ends(tmp_path: Path) -> None:
    digests = Digests()
    digests.stop()
    assert digests.of(Version("one", write(tmp_path / "one"))) == ""
