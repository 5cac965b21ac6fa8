"""The services: what shows before the start whether the settings can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deskterior.config import ROOT, Settings, SettingsError
from deskterior.services import Services


def settings(folder: Path, **more: Any) -> Settings:
    model: dict[str, Any] = {
        "desk_model_dir": ROOT / "tests",
        "desk_runner": "http://127.0.0.1:9",
    }  # whatever is trained here or not
    place: dict[str, Any] = {"storage_dir": folder / "storage", "database_url": f"sqlite:///{folder / 'jobs.sqlite'}"}
    return Settings(_env_file=None, **model | place | more)


async def test_settings_that_can_be_used_pass_and_no_model_is_loaded(tmp_path: Path) -> None:
    await Services.rehearse(settings(tmp_path))
    await Services.rehearse(settings(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("storage_dir", "{file}/storage"),
        ("database_url", "sqlite:///{file}/jobs.sqlite"),
        ("database_url", "sqlite:///{folder}"),
        ("callback_secret", "whsec_!"),
        ("catalogue_csv", "{file}/catalogue.csv"),
        ("image_model", "a-model-nobody-knows"),
        ("photo_allowed_hosts", "https://cdn.example.com"),
        ("openai_api_key", "책상"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    wrong = {name: value.format(file=tmp_path / "file", folder=tmp_path)}
    with pytest.raises(SettingsError, match=name.upper()):
        await Services.rehearse(settings(tmp_path, **wrong))


async def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DESK_MODEL_DIR"):
        await Services.rehearse(settings(tmp_path, desk_runner="embedded", desk_model_dir=tmp_path))
