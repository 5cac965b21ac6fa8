"""deploy/prometheus: each alert fires when what it is for has happened, and is silent before; promtool is the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from deskterior.config import ROOT
from tests.prometheus import RULES, firing, hold, promtool, series, tool


class Case(NamedTuple):
    """Series that must raise an alert by the minute `at`, and others, not far from them, that must not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    at: str = "30m"


def _requests(failed: int, good: int = 100) -> dict[str, str]:
    return {
        'deskterior_requests_total{route="/classify", method="POST", status="200"}': f"0+{good}x60",
        'deskterior_requests_total{route="/classify", method="POST", status="500"}': f"0+{failed}x60",
    }


def _slow(name: str, labels: str, quick: int, slow: int, edge: str) -> dict[str, str]:
    """A histogram with `quick` a minute up to 0.1 s, and `slow` up to `edge`."""
    return {
        f'{name}_bucket{{{labels}, le="0.1"}}': f"0+{quick}x60",
        f'{name}_bucket{{{labels}, le="{edge}"}}': f"0+{quick + slow}x60",
        f'{name}_bucket{{{labels}, le="+Inf"}}': f"0+{quick + slow}x60",
    }


def _tasks(waiting: int, limit: int = 100) -> dict[str, str]:
    per = {f'deskterior_tasks{{instance="{at}", kind="v1", status="queued"}}': f"{waiting}x60" for at in "ab"}
    return per | {'deskterior_tasks_waiting_limit{instance="a"}': f"{limit}x60"}


def _provider(failed: int) -> dict[str, str]:
    calls = {"ok": 100, "provider-timeout": failed, "provider-refused": 500, "cancelled": 500}
    name = 'deskterior_provider_calls_total{provider="openai", model="gpt-4o", outcome="%s"}'
    return {name % outcome: f"0+{count}x60" for outcome, count in calls.items()}


def _spend(spent: float, cap: float = 20) -> dict[str, str]:
    return {
        'deskterior_spent_today_usd{instance="a"}': f"{spent}x60",
        'deskterior_spent_today_usd{instance="b"}': f"{spent}x60",  # the same money, told twice
        "deskterior_held_today_usd": "1x60",
        "deskterior_spend_cap_usd": f"{cap}x60",
    }


CASES = {
    "DeskteriorNotScraped": Case(
        {'up{job="deskterior", instance="a"}': "1x10 0x50"}, {'up{job="deskterior", instance="a"}': "1x28 0x2"}
    ),
    "DeskteriorFails": Case(_requests(failed=10), _requests(failed=4)),
    "DeskteriorClassifySlow": Case(
        _slow("deskterior_request_seconds", 'route="/classify", method="POST"', 90, 10, "10.0"),
        _slow("deskterior_request_seconds", 'route="/classify", method="POST"', 97, 3, "10.0"),
    ),
    "DeskteriorMakeoversSlow": Case(
        _slow("deskterior_task_seconds", 'kind="v1", status="succeeded"', 50, 50, "300.0"),
        _slow("deskterior_task_seconds", 'kind="v1", status="succeeded"', 95, 5, "300.0"),
        at="59m",
    ),
    "DeskteriorOverloaded": Case(
        _requests(0) | {'deskterior_problems_total{slug="overloaded"}': "0+5x60"},
        _requests(0) | {'deskterior_problems_total{slug="overloaded"}': "0+1x60"},
    ),
    "DeskteriorQueueFull": Case(_tasks(90), _tasks(60)),  # 60 and 60, from two processes, are the same 60
    "DeskteriorJobsStuck": Case(
        {'deskterior_oldest_task_seconds{status="running"}': "2000+60x60"},
        {'deskterior_oldest_task_seconds{status="running"}': "600x60"},
    ),
    "DeskteriorNobodyMakes": Case({"deskterior_executors": "0x60"}, {"deskterior_executors": "1x60"}),
    "DeskteriorJobStoreAway": Case(
        {'deskterior_job_store_up{instance="a"}': "0x60", 'deskterior_job_store_up{instance="b"}': "1x60"},
        {'deskterior_job_store_up{instance="a"}': "1x29 0x1", 'deskterior_job_store_up{instance="b"}': "1x60"},
    ),
    "DeskteriorTakeover": Case({"deskterior_takeovers_total": "0x20 1x40"}, {"deskterior_takeovers_total": "7x60"}),
    "DeskteriorCallbacksWait": Case(
        {"deskterior_oldest_callback_seconds": "1900+60x60"}, {"deskterior_oldest_callback_seconds": "1200x60"}
    ),
    "DeskteriorCallbackLost": Case(
        {'deskterior_callbacks_total{outcome="given-up"}': "0x20 1x40"},
        {'deskterior_callbacks_total{outcome="failed"}': "0+9x60"},
    ),
    "DeskteriorSpendNearCap": Case(_spend(16), _spend(14)),
    "DeskteriorProviderFails": Case(_provider(failed=400), _provider(failed=100)),
    "DeskteriorGpuGone": Case(
        {'deskterior_gpu_up{gpu="0 L4"}': "1x10 0x50"}, {'deskterior_gpu_up{gpu="0 L4"}': "1x60"}
    ),
    "DeskteriorGpuHot": Case(
        {'deskterior_gpu_temperature_celsius{gpu="0 L4"}': "90x60"},
        {'deskterior_gpu_temperature_celsius{gpu="0 L4"}': "82x60"},
    ),
}


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES[1].read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_rules_are_what_prometheus_reads() -> None:
    ended = promtool("check", "rules", *RULES)
    assert ended.returncode == 0, ended.stdout
    ended = promtool("check", "config", "--syntax-only", ROOT / "deploy" / "prometheus" / "prometheus.yml")
    assert ended.returncode == 0, ended.stdout


def test_prometheus_is_told_of_every_file_of_rules() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == [path.name for path in RULES]


def test_each_alert_says_what_to_do_and_has_a_case_here() -> None:
    alerts = _alerts()
    assert alerts.keys() == CASES.keys() | {"DeskteriorScoresDrift"}
    for rule in alerts.values():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "action"}


def test_each_alert_fires_when_it_must_and_not_before(tmp_path: Path) -> None:
    tests = []
    for name, case in CASES.items():
        for given, count in ((case.fires, 1), (case.quiet, 0)):
            tests.append(
                {"interval": "1m", "input_series": series(given), "promql_expr_test": [firing(name, count, case.at)]}
            )
    hold(tmp_path, tests)


def test_that_nothing_is_scraped_at_all_is_told_too(tmp_path: Path) -> None:
    given = series({'up{job="prometheus"}': "1x60"})
    expected = [firing("DeskteriorNotScraped", 1, "30m")]
    hold(tmp_path, [{"interval": "1m", "input_series": given, "promql_expr_test": expected}])


@pytest.mark.parametrize("cap", [0, 1000])
def test_money_without_a_cap_or_far_from_it_is_no_alert(tmp_path: Path, cap: float) -> None:
    given = series(_spend(500, cap))
    expected = [firing("DeskteriorSpendNearCap", 0, "30m")]
    hold(tmp_path, [{"interval": "1m", "input_series": given, "promql_expr_test": expected}])


# Drift

CARD = json.loads((ROOT / "models" / "desk_classifier" / "model.json").read_text())
SEEN = CARD["score_histogram"]
EDGES = [f"{edge:g}" for edge in SEEN["edges"][1:-1]]
MODEL = "1.0.0-73a33519"


def _share(counts: list[float]) -> list[float]:
    return [count / sum(counts) for count in counts]


def _mixed(desk: list[float], other: list[float], share: float) -> list[float]:
    """Photos in each bin: `share` of them desks."""
    return [share * a + (1 - share) * b for a, b in zip(_share(desk), _share(other), strict=True)]


def _scores(bins: list[float], a_day: int) -> dict[str, str]:
    """A day's scores and more as histograms of two processes, and the reference as the service tells it."""
    given: dict[str, str] = {}
    per_step = a_day / (24 * 12)  # of five minutes
    for process, part in (("a", 0.3), ("b", 0.7)):
        total = 0.0
        for edge, count in zip([*EDGES, "+Inf"], bins, strict=True):
            total += count
            name = f'deskterior_score_bucket{{instance="{process}", model="{MODEL}", le="{edge}"}}'
            given[name] = f"0+{total * per_step * part:.6f}x324"
        given[f'deskterior_score_count{{instance="{process}", model="{MODEL}"}}'] = f"0+{per_step * part:.6f}x324"
        for kind in ("desk", "not_desk"):
            seen = 0.0
            for edge, count in zip(EDGES, _share(SEEN[kind]), strict=False):
                seen += count
                label = f'instance="{process}", model="{MODEL}", class="{kind}", le="{edge}"'
                given[f"deskterior_reference_score_cdf{{{label}}}"] = f"{seen:.6f}x324"
    return given


def _drift(bins: list[float], count: int, a_day: int = 2000) -> dict[str, Any]:
    expected = [firing("DeskteriorScoresDrift", count, "27h")]
    return {"interval": "5m", "input_series": series(_scores(bins, a_day)), "promql_expr_test": expected}


UNSURE = [0.0] * 5 + [1.0] * 10 + [0.0] * 5
"""Scores that are neither low nor high: photos of a kind that training had not."""


@pytest.mark.parametrize("share", [0.02, 0.129, 0.5, 0.97])
def test_scores_like_those_of_training_are_no_drift_however_many_are_desks(tmp_path: Path, share: float) -> None:
    hold(tmp_path, [_drift(_mixed(SEEN["desk"], SEEN["not_desk"], share), 0)], every="5m")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_unsure_scores_are_drift_however_many_are_desks(tmp_path: Path, share: float) -> None:
    usual = _mixed(SEEN["desk"], SEEN["not_desk"], share)
    hold(tmp_path, [_drift(_mixed(UNSURE, usual, 0.5), 1)], every="5m")


def test_desks_that_score_lower_than_in_training_are_drift(tmp_path: Path) -> None:
    lower = SEEN["desk"][6:] + [0] * 6
    hold(tmp_path, [_drift(_mixed(lower, SEEN["not_desk"], 0.6), 1)], every="5m")


def test_a_handful_of_photos_is_no_distribution(tmp_path: Path) -> None:
    hold(tmp_path, [_drift(_mixed(UNSURE, SEEN["desk"], 0.9), 0, a_day=200)], every="5m")


def test_the_drift_is_the_largest_distance_of_the_two_curves(tmp_path: Path) -> None:
    """By hand: the same sum as in the rules, over the same bins."""
    bins = _mixed(UNSURE, SEEN["desk"], 0.8)
    found = [sum(bins[: index + 1]) for index in range(19)]
    desk, other = ([sum(_share(SEEN[kind])[: index + 1]) for index in range(19)] for kind in ("desk", "not_desk"))
    share = min(1.0, max(0.0, (other[7] - found[7]) / (other[7] - desk[7])))
    mixed = [share * a + (1 - share) * b for a, b in zip(desk, other, strict=True)]
    distance = max(abs(a - b) for a, b in zip(found, mixed, strict=True))
    query = f"abs(deskterior:score_drift:1d - {distance:.6f}) < bool 0.002"
    expected = [{"expr": query, "eval_time": "27h", "exp_samples": [{"labels": f'{{model="{MODEL}"}}', "value": 1}]}]
    hold(
        tmp_path, [{"interval": "5m", "input_series": series(_scores(bins, 5000)), "promql_expr_test": expected}], "5m"
    )


def test_promtool_is_here() -> None:
    """Says loudly, once, what the others of this file are skipped for."""
    assert tool("promtool")
