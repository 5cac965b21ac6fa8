"""docs/telemetry.md, the dashboard and the rules: what they tell of is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from deskterior.config import ROOT
from deskterior.metrics_table import page
from tests.deploy_queries import DASHBOARD, names, queries
from tests.prometheus import promtool


def test_the_page_has_every_family() -> None:
    assert (ROOT / "docs" / "telemetry.md").read_text() == page(), "run `make docs`"


def test_every_query_of_the_dashboard_is_one_that_prometheus_reads(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    ended = promtool("check", "rules", "--lint=none", file)
    assert ended.returncode == 0, ended.stdout


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    board = json.loads(DASHBOARD.read_text())
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "files.yaml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_rules_and_dashboard_name_no_family_that_is_not_in_the_table() -> None:
    """That they are in a real scrape, tests/e2e holds."""
    table = (ROOT / "docs" / "telemetry.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \| (\w+)", table, re.MULTILINE))
    known = {
        f"{name}{end}"
        for name, kind in told
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    assert names() - known - {"up", "ALERTS"} == set()
