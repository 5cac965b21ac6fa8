"""deploy/compose: the files are what Compose reads, nothing in them has rights to spare, and the settings of the
examples start the service in production once the keys are in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from deskterior.config import SettingsError
from deskterior.gateway.keys import Entry
from deskterior.services import Services
from tests.deployments import DEPLOY, env_file, settings_from

COMPOSE = DEPLOY / "compose"
FILLED = {
    "POSTGRES_PASSWORD": "0123456789abcdef",
    "GRAFANA_PASSWORD": "fedcba9876543210",
    "API_KEYS": json.dumps([Entry.make("backend", ["classify"])[1].model_dump(mode="json")]),
    "OPENAI_API_KEY": "sk-given",
    "NAVER_CLIENT_ID": "given",
    "NAVER_CLIENT_SECRET": "given",
    "STORAGE_SECRET": "0123456789abcdef0123456789abcdef",
}


def _example(name: str, **given: str) -> dict[str, str]:
    values = env_file((COMPOSE / name).read_text())
    return values | {name: value for name, value in (FILLED | given).items() if name in values}


def _interpolated(name: str, values: dict[str, str]) -> str:
    """The file as Compose reads it: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`."""

    def value(found: re.Match[str]) -> str:
        text = values.get(found["name"], "")
        if found["kind"] == ":?" and not text:
            raise AssertionError(f"{found['name']} is missing: {found['rest']}")
        return text or (found["rest"] if found["kind"] == ":-" else "")

    pattern = r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}"
    return re.sub(pattern, value, (COMPOSE / name).read_text())


def _read(name: str = "compose.yaml") -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(_interpolated(name, _example(".env.example")))
    return read


def _api() -> dict[str, str]:
    """The environment of the API's container: the settings' file, and over it what stands in compose.yaml."""
    set_there: dict[str, str] = _read()["services"]["api"]["environment"]
    return _example("service.env.example") | set_there


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_file_is_what_the_compose_specification_says(name: str) -> None:
    PyCompose.from_yaml(yaml.safe_dump(_read(name))).validate()


def test_a_mistake_in_the_file_is_found() -> None:
    wrong = _interpolated("compose.yaml", _example(".env.example")).replace("stop_grace_period", "stop_grace_perod")
    with pytest.raises(ValueError, match="stop_grace_perod"):
        PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(wrong)))


async def test_the_examples_start_the_service_in_production_once_the_keys_are_in(tmp_path: Path) -> None:
    settings = settings_from(_api())
    assert settings.env == "production"
    assert not settings.openai_is_sandbox
    assert not settings.naver_is_sandbox
    await Services.rehearse(settings.model_copy(update={"storage_dir": tmp_path}))


def test_without_api_keys_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="API_KEYS"):
        settings_from(_api() | {"API_KEYS": ""})


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "DESKTERIOR_IMAGE"])
def test_without_a_password_or_an_image_compose_says_what_is_missing(name: str) -> None:
    with pytest.raises(AssertionError, match=f"{name} is missing"):
        _interpolated("compose.yaml", _example(".env.example") | {name: ""})


def test_the_examples_hold_no_secret() -> None:
    for name in (".env.example", "service.env.example"):
        values = env_file((COMPOSE / name).read_text())
        secret = {name for name in values if re.search("PASSWORD|SECRET|KEY", name)}
        assert secret
        assert {values[name] for name in secret} == {""}


def test_no_container_has_rights_to_spare() -> None:
    for name, service in _read()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert not service["user"].startswith("0"), name
        assert "cap_add" not in service, name


def test_only_the_api_listens_to_others() -> None:
    for name, service in _read()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") or name == "api"
    assert _read()["networks"]["back"]["internal"] is True
    assert _read()["services"]["postgres"]["networks"] == ["back"]


def test_whatever_lasts_is_healthy_or_replaced() -> None:
    for name, service in _read()["services"].items():
        assert "healthcheck" in service, name
    api = _read()["services"]["api"]
    assert f"CMD {json.dumps(api['healthcheck']['test'][1:])}" in (DEPLOY / "image" / "Dockerfile").read_text()
    assert api["stop_grace_period"] == "100s"


def test_images_are_pinned() -> None:
    for name, service in _read()["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), name


def test_everything_that_is_mounted_exists() -> None:
    declared = _read()["volumes"]
    for service in _read()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            made_by_hand = source == "./metrics.key"
            assert source in declared or (COMPOSE / source).resolve().is_dir() or made_by_hand, source


def test_prometheus_asks_for_what_the_service_has() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    api = _read()["services"]["api"]
    assert jobs["deskterior"]["static_configs"][0]["targets"] == [f"api:{api['environment']['PORT']}"]
    assert jobs["deskterior"].get("metrics_path", "/metrics") == "/metrics"
    mounted = [volume.split(":")[1] for volume in _read()["services"]["prometheus"]["volumes"]]
    assert jobs["deskterior"]["authorization"]["credentials_file"] in mounted
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def test_the_gpu_file_adds_a_gpu_and_nothing_else_that_matters() -> None:
    api = _read("compose.gpu.yaml")["services"]["api"]
    (device,) = api["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert not api.keys() & {"privileged", "cap_add", "user", "ports"}
