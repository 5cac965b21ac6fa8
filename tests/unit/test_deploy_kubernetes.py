"""deploy/kubernetes: every manifest against Kubernetes' own schemas, and what they promise of each other.

The overlay is put together here as kustomize does it, as far as it uses kustomize: resources, generated settings,
images and JSON patches.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deskterior.config import ROOT
from deskterior.gateway.keys import Entry
from tests.deployments import DEPLOY, UNDERSTOOD, env_file, settings_from

KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.34"
OVERLAYS = {"base": KUBERNETES / "base", "gpu": KUBERNETES / "overlays" / "gpu"}
Manifest = dict[str, Any]


def _documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@cache
def _settings(folder: Path) -> dict[str, str]:
    settings: dict[str, str] = {}
    (kustomization,) = _documents(folder / "kustomization.yaml")
    for resource in kustomization["resources"]:
        if (folder / resource).is_dir():
            settings |= _settings((folder / resource).resolve())
    for generated in kustomization["configMapGenerator"]:
        for file in generated.get("envs", []):
            settings |= env_file((folder / file).read_text())
        settings |= env_file("\n".join(generated.get("literals", [])))
    return settings


def _built(folder: Path) -> list[Manifest]:
    (kustomization,) = _documents(folder / "kustomization.yaml")
    made: list[Manifest] = []
    for resource in kustomization["resources"]:
        path = (folder / resource).resolve()
        made += _built(path) if path.is_dir() else _documents(path)
    for patch in kustomization.get("patches", []):
        (target,) = [m for m in made if {"kind": m["kind"], "name": m["metadata"]["name"]} == patch["target"]]
        for operation in yaml.safe_load(patch["patch"]):
            _apply(target, operation)
    return made


def _apply(to: Manifest, operation: Manifest) -> None:
    *way, last = [part.replace("~1", "/") for part in operation["path"].strip("/").split("/")]
    place: Any = to
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert operation["op"] == "add" or last in place, f"{operation['path']} is not there to be replaced"
    place[last] = copy.deepcopy(operation["value"])


def _all() -> Iterator[Any]:
    for overlay, folder in OVERLAYS.items():
        for manifest in _built(folder):
            yield pytest.param(manifest, id=f"{overlay}-{manifest['kind']}-{manifest['metadata']['name']}")


def _of(overlay: str, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in _built(OVERLAYS[overlay]) if m["kind"] == kind}


def _pods() -> Iterator[Any]:
    for overlay in OVERLAYS:
        for name, deployment in _of(overlay, "Deployment").items():
            yield pytest.param(deployment["spec"]["template"], id=f"{overlay}-{name}")


PODS = list(_pods())


def _secret() -> dict[str, str]:
    (example,) = _documents(KUBERNETES / "secret.example.yaml")
    assert set(example["stringData"].values()) == {""}
    given = {
        "API_KEYS": json.dumps([Entry.make("backend", ["classify"])[1].model_dump(mode="json")]),
        "DATABASE_URL": "postgresql://deskterior:pw@10.0.0.3:5432/deskterior?sslmode=require",
        "RUNNER_TOKEN": "0123456789abcdef0123456789abcdef",
        "CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    return {name: given.get(name, "given") for name in example["stringData"]}


@pytest.mark.parametrize("manifest", list(_all()))
def test_a_manifest_is_what_kubernetes_takes(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_secret_of_the_example_is_what_kubernetes_takes() -> None:
    kubernetes_validate.validate(_documents(KUBERNETES / "secret.example.yaml")[0], VERSION, strict=True)


def test_a_mistake_in_a_manifest_is_found() -> None:
    wrong = copy.deepcopy(_of("base", "Deployment")["api"])
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("pod", PODS)
def test_a_process_starts_in_production_with_what_its_pod_gets(pod: Manifest, request: pytest.FixtureRequest) -> None:
    overlay = request.node.callspec.id.partition("-")[0]
    (container,) = pod["spec"]["containers"]
    values: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            assert source["configMapRef"]["name"] == "settings"
            values |= _settings(OVERLAYS[overlay])
        else:
            assert source["secretRef"]["name"] == "deskterior"
            values |= _secret()
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        values[variable["name"]] = _secret()[reference["key"]] if reference else variable["value"]
    assert settings_from(values).env == "production"


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_fits_the_restricted_standard_and_says_what_it_needs(pod: Manifest) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert {volume["mountPath"] for volume in container["volumeMounts"]} >= {"/tmp"}
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert "startupProbe" in container


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_time_to_drain(pod: Manifest) -> None:
    spec = pod["spec"]
    lifecycle = spec["containers"][0].get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
    assert spec["terminationGracePeriodSeconds"] >= lifecycle["preStop"]["sleep"]["seconds"] + 45


def test_the_api_leaves_makeovers_to_the_job_workers() -> None:
    assert _settings(OVERLAYS["base"])["JOB_WORKERS"] == "0"
    (container,) = _of("base", "Deployment")["job-worker"]["spec"]["template"]["spec"]["containers"]
    module, _, name = container["args"][2].partition(":")
    assert f"class {name}" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert "job-worker" in _of("base", "HorizontalPodAutoscaler")


def test_held_answers_are_out_before_the_api_is_asked_to_end() -> None:
    pod = _of("base", "Deployment")["api"]["spec"]["template"]["spec"]
    held = float(_settings(OVERLAYS["base"])["WAIT_MAX_S"])
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] > held


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_disruption_budgets_and_the_autoscaler_name_what_exists(overlay: str) -> None:
    deployments = _of(overlay, "Deployment")
    labels = {name: d["spec"]["template"]["metadata"]["labels"] for name, d in deployments.items()}
    for name, service in _of(overlay, "Service").items():
        assert service["spec"]["selector"].items() <= labels[name].items()
        ports = {port["name"] for port in deployments[name]["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for name, budget in _of(overlay, "PodDisruptionBudget").items():
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    for scaler in _of(overlay, "HorizontalPodAutoscaler").values():
        target = deployments[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]
    accounts = _of(overlay, "ServiceAccount")
    for deployment in deployments.values():
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] in accounts
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels[deployment["metadata"]["name"]].items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_finds_its_runners(overlay: str) -> None:
    services = _of(overlay, "Service")
    for name in ("DESK_RUNNER", "CUSTOM_RUNNER"):
        if name in _settings(OVERLAYS[overlay]):
            host, _, port = _settings(OVERLAYS[overlay])[name].removeprefix("http://").partition(":")
            assert int(port) in {p["port"] for p in services[host]["spec"]["ports"]}


def test_runners_are_called_by_the_api_and_job_workers_alone_and_call_nobody() -> None:
    for overlay in OVERLAYS:
        policies = _of(overlay, "NetworkPolicy")
        assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        runners = policies["runners"]["spec"]
        assert "egress" not in runners
        (rule,) = runners["ingress"]
        ((chosen,),) = [source["podSelector"]["matchExpressions"] for source in rule["from"]]
        assert chosen == {"key": "app.kubernetes.io/name", "operator": "In", "values": ["api", "job-worker"]}
        for name, deployment in _of(overlay, "Deployment").items():
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert (runners["podSelector"]["matchLabels"].items() <= labels.items()) == name.endswith("-runner")


def test_every_process_is_scraped_once_with_what_it_asks_for_and_prometheus_may_come_in() -> None:
    """The alerts know the job `deskterior`: the label that kustomize gives to every Service."""
    wanted = {"api": ("deskterior-metrics", "key"), "job-worker": None, "runner": ("deskterior", "RUNNER_TOKEN")}
    monitors = _documents(KUBERNETES / "components" / "service-monitor" / "service-monitor.yaml")
    for overlay, folder in OVERLAYS.items():
        (kustomization,) = _documents(folder / "kustomization.yaml")
        assert {"pairs": {"app.kubernetes.io/part-of": "deskterior"}} in kustomization["labels"]
        (rule,) = _of(overlay, "NetworkPolicy")["watched"]["spec"]["ingress"]
        open_to_prometheus = {port["port"] for port in rule["ports"]}
        services = _of(overlay, "Service")
        assert services.keys() == _of(overlay, "Deployment").keys()
        for name, service in services.items():
            labels = service["metadata"]["labels"].items()
            (monitor,) = [m for m in monitors if m["spec"]["selector"]["matchLabels"].items() <= labels]
            assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/part-of"
            (endpoint,) = monitor["spec"]["endpoints"]
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            shown = endpoint.get("authorization", {}).get("credentials")
            kind = "runner" if name.endswith("-runner") else name
            assert (shown and (shown["name"], shown["key"])) == wanted[kind]
            (container,) = _of(overlay, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
            assert {port["containerPort"] for port in container["ports"]} <= open_to_prometheus


def test_no_way_out_leads_to_a_metadata_server_or_a_private_network() -> None:
    api = _of("base", "NetworkPolicy")["out"]["spec"]
    (world,) = [
        way["ipBlock"]
        for rule in api["egress"]
        for way in rule["to"]
        if way.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]
    private = {"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
    assert private <= set(world["except"])


def test_gpus_are_asked_for_where_the_image_has_cuda_and_only_there() -> None:
    for overlay in OVERLAYS:
        for deployment in _of(overlay, "Deployment").values():
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            limits = container["resources"]["limits"]
            assert ("nvidia.com/gpu" in limits) == container["image"].endswith("-cuda")


def test_settings_and_secrets_are_names_that_the_service_knows() -> None:
    for folder in OVERLAYS.values():
        assert _settings(folder).keys() <= UNDERSTOOD
        assert not _settings(folder).keys() & _secret().keys()
    assert _secret().keys() <= UNDERSTOOD
