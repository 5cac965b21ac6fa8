"""Settings come from one file, each can be set by a flag, and a wrong one is named."""

import argparse
from pathlib import Path

import pytest

from training import settings
from training.settings import SettingsError


def parsed(*flags: str) -> settings.Settings:
    parser = argparse.ArgumentParser()
    settings.add_flags(parser)
    return settings.resolve(parser.parse_args(flags))


def test_every_setting_of_the_file_has_a_flag() -> None:
    parser = argparse.ArgumentParser()
    settings.add_flags(parser)
    flags = parser.format_help()
    for name, _ in settings.leaves(settings.Settings):
        if name != "kinds":  # a table; it stays in the file
            assert f"--{name} " in flags


def test_flags_stand_over_the_file() -> None:
    found = parsed(
        "--seed", "7", "--fit.learning_rate", "0.5", "--collections", "a/b", "c/d", "--augmentation.grey", "1"
    )
    assert (found.seed, found.fit.learning_rate, found.collections) == (7, 0.5, ["a/b", "c/d"])
    assert found.augmentation.grey == 1.0
    assert found.fit.epochs == settings.load().fit.epochs


def test_resolved_settings_can_be_read_back() -> None:
    found = parsed("--seed", "3")
    assert settings.from_dict(found.as_dict()) == found


@pytest.mark.parametrize(
    ("line", "named"),
    [("colour = 1", "unknown setting colour"), ('folds = "five"', "setting folds is 'five'"), ("", "seed is missing")],
)
def test_a_wrong_file_is_told_by_name(tmp_path: Path, line: str, named: str) -> None:
    whole = settings.DEFAULTS.read_text(encoding="utf-8")
    kept = whole.replace("folds = 5", "") if "folds" in line else whole
    text = f"{line}\n{kept}" if line else whole.replace("seed = 0", "")
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=named):
        settings.load(tmp_path / "settings.toml")


def test_a_missing_file_is_told() -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        settings.load(Path("nowhere.toml"))
