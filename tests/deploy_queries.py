"""What the rules, the alerts and the dashboard in deploy/ ask of Prometheus."""

from __future__ import annotations

import json
import re

import yaml

from deskterior.config import ROOT
from tests.prometheus import RULES

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "deskterior.json"
_NAME = re.compile(r"(?<![\w:])(?:deskterior|desk_classifier|drawing_model)[:_][\w:]+")


def queries() -> list[str]:
    """Of the dashboard."""
    board = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def names() -> set[str]:
    """Every family that anything there asks for; of those that the rules make, that they do."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    made = {rule["record"] for rule in rules if "record" in rule}
    asked = [rule["expr"] for rule in rules] + queries()
    found = {name for text in asked for name in _NAME.findall(text)}
    assert {name for name in found if ":" in name} <= made
    return {name for name in found if ":" not in name}
