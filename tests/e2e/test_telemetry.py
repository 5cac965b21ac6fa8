"""A whole service with two workers and a runner beside them: what a scrape, a collector and a log have of it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.collector import Collector, Span, collector
from demo.running import service
from sandbox import serving
from tests.deploy_queries import names
from tests.e2e.conftest import environment
from tests.unit.test_metrics import scraped

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Watched:
    """A service that has classified twenty photos and made one over, in a trace of the client's."""

    base: str
    sandbox: str
    log: Path
    photos: dict[str, str]
    collector: Collector
    client: httpx.Client

    def scrape(self) -> dict[str, float]:
        return scraped(self.client.get("/metrics").raise_for_status().text)

    def trace(self) -> list[Span]:
        """The makeover's, once its callback is delivered and told of."""

        def whole(spans: list[Span]) -> bool:
            return {"notify", f"POST {route}"} <= {span.name for span in spans if span.trace_id == TRACE}

        route = "/v1/generate"
        self.collector.wait_for(whole)
        return self.collector.spans(TRACE)


@pytest.fixture(scope="module")
def watched(photos: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with collector() as to, serving.in_process("--latency", "0") as (sandbox, _):
        settings = environment(
            folder,
            WORKERS="2",
            RUNNERS="process",
            SANDBOX_URL=sandbox,
            CALLBACK_URL=f"{sandbox}/backend/callback",
            OTEL_EXPORTER_OTLP_ENDPOINT=to.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            LOG_LEVEL="debug",
        )
        log = folder / "service.log"
        with service(log, **settings) as base, httpx.Client(base_url=base, timeout=60) as client:
            for _ in range(20):  # a connection each, so that both workers have some
                body = {"initial_image_url": photos["desk"]}
                assert httpx.post(f"{base}/classify", json=body, timeout=60).status_code == 200
            traceparent = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
            address = photos["desk"] + "?X-Amz-Signature=abcdef0123456789"
            answer = client.post("/v1/generate", json={"image_url": address}, headers=traceparent)
            assert answer.status_code == 200, answer.text
            yield Watched(base, sandbox, log, photos, to, client)


def test_a_scrape_has_every_family_that_alerts_and_the_dashboard_ask_for(watched: Watched) -> None:
    text = watched.client.get("/metrics").text
    told = set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.MULTILINE)) | set(
        re.findall(r"^# TYPE ([a-z_]+) gauge$", text, re.MULTILINE)
    )
    assert names() - told == set()
    assert "# TYPE bentoml_service_request_total counter" in text


def test_all_processes_are_in_one_scrape_whoever_answers_it(watched: Watched) -> None:
    for _ in range(6):
        answer = httpx.get(f"{watched.base}/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        found = scraped(answer.text)
        assert found['deskterior_requests_total{"method": "POST", "route": "/classify", "status": "200"}'] == 20
        assert found['deskterior_request_seconds_count{"method": "POST", "route": "/classify"}'] == 20
        assert found['deskterior_verdicts_total{"verdict": "desk"}'] == 20
        assert found["desk_classifier_batch_size_sum{}"] >= 21  # in the runner's process
        assert found["deskterior_executors{}"] == 2
        assert found["deskterior_spent_today_usd{}"] > 0
        (score,) = (value for name, value in found.items() if name.startswith("deskterior_score_count"))
        assert score == 20


def test_a_thousand_paths_and_methods_add_no_series(watched: Watched) -> None:
    def strange(number: int) -> None:
        watched.client.get(f"/nowhere/{number}")
        watched.client.request(f"BREW{number}", f"/classify/{number}")
        watched.client.get(f"/tasks/{number:032x}", headers={"X-Request-ID": f"r-{number}"})
        watched.client.get(f"/app/routers/tasks/{number:032x}/events?a={number}")

    strange(0)
    before = watched.scrape().keys()
    for number in range(1, 251):
        strange(number)
    assert watched.scrape().keys() - before == set()


def test_a_makeover_is_one_trace_from_the_client_to_the_backend(watched: Watched) -> None:
    spans = watched.trace()
    by_id = {span.span_id: span for span in spans}
    (request,) = (span for span in spans if span.name == "POST /v1/generate")
    assert request.parent_id == CLIENT
    assert {span.parent_id for span in spans} - by_id.keys() == {CLIENT}  # one tree
    found = {span.name for span in spans}
    assert found >= {"makeover", "photo", "describe", "render", "shop", "publish", "notify"}
    assert found >= {"photo download", "desk-runner score", "POST /score", "naver shop", "backend callback"}
    assert len([name for name in found if name.startswith("openai ")]) == 2
    (runner,) = (span for span in spans if span.name == "POST /score")
    assert runner.service == "deskterior-desk-classifier"
    assert by_id[runner.parent_id].name == "desk-runner score"
    assert not any(span.failed for span in spans)
    assert all(span.start <= span.end for span in spans)


def test_the_backend_hears_of_the_trace_and_outside_services_do_not(watched: Watched) -> None:
    spans = watched.trace()
    (callback,) = httpx.get(f"{watched.sandbox}/backend/callbacks").json()
    (call,) = (span for span in spans if span.name == "backend callback")
    assert callback["headers"]["traceparent"] == f"00-{TRACE}-{call.span_id}-01"
    assert not {"tracestate", "baggage"} & callback["headers"].keys()


def test_spans_hold_no_address_no_prompt_and_no_text_of_others(watched: Watched) -> None:
    text = json.dumps([{"name": span.name, **span.attributes} for span in watched.collector.spans()])
    for secret in ("://", "127.0.0.1", "Signature", "desk.jpg", "traceparent", "Bearer"):
        assert secret not in text
    known = {"http.request.method", "http.route", "http.response.status_code", "peer.service", "error.type"}
    for span in watched.collector.spans():
        assert all(name in known or name.startswith("deskterior.") for name in span.attributes), span


def test_log_lines_have_the_ids_of_the_trace(watched: Watched) -> None:
    watched.trace()
    lines = [json.loads(line) for line in watched.log.read_text().splitlines() if line.startswith("{")]
    (ended,) = (line for line in lines if line["event"] == "makeover.succeeded")
    assert ended["trace_id"] == TRACE
    assert len(ended["span_id"]) == 16
    assert ended["task_id"]
    assert ended["request_id"]
    (asked,) = (line for line in lines if line["event"] == "request" and line["path"] == "/v1/generate")
    assert asked["trace_id"] == TRACE


def test_health_checks_and_scrapes_are_not_traced(watched: Watched) -> None:
    for path in ("/health", "/livez", "/readyz", "/metrics"):
        watched.client.get(path)
    watched.trace()
    assert not {span.name for span in watched.collector.spans() if "health" in span.name or "/metrics" in span.name}


def test_a_worker_that_dies_takes_nothing_of_what_was_counted_along(watched: Watched) -> None:
    """Last: it costs a worker."""
    before = watched.scrape()
    workers = _workers(watched.base)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    psutil.Process(workers[0]).wait(30) if psutil.pid_exists(workers[0]) else None
    with httpx.Client(base_url=watched.base, timeout=60, transport=httpx.HTTPTransport(retries=5)) as client:
        after = scraped(client.get("/metrics").raise_for_status().text)
    counted = [name for name in before if "_total{" in name or "_count{" in name or "_bucket{" in name]
    assert counted
    assert not [name for name in counted if after.get(name, 0) < before[name]]


def _workers(base: str) -> list[int]:
    """The API processes that listen at an address."""
    port = httpx.URL(base).port
    found = [
        each.pid
        for each in psutil.process_iter()
        for connection in _connections(each)
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    ]
    parents = {psutil.Process(pid).ppid() for pid in found}
    return [pid for pid in found if pid not in parents]


def _connections(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections("tcp4")
    except psutil.Error:
        return []
