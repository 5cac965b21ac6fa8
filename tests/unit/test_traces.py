"""Traces: off until there is a collector, one trace whoever goes on with it, and nothing in them that is nobody's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from benchmarks.collector import collector
from deskterior.config import Settings
from deskterior.download import PhotoDownloader
from deskterior.egress import PhotoHosts
from deskterior.errors import ProviderTimeout
from deskterior.makeover.prompts import Prompts
from deskterior.providers.naver import NaverSearch
from deskterior.providers.openai_client import openai_client
from deskterior.providers.selection import providers
from deskterior.telemetry import traces
from deskterior.telemetry.calls import outside_call
from deskterior.telemetry.logs import trace_ids
from deskterior.telemetry.requests import traced
from deskterior.telemetry.settings import TelemetrySettings
from tests.recorded import Counting, Recorded, parent_id, recorded, span_id, trace_id
from tests.unit.providers.stand_in import reply, standing_in

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CLIENT}-01"


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recorded() as found:
        yield found


def ends_at(url: str) -> TelemetrySettings:
    return TelemetrySettings(otel_exporter_otlp_endpoint=url)


class TestOff:
    def test_nothing_is_traced_kept_or_sent(self) -> None:
        traces.start(ends_at(""), "0")
        assert not traces.on()
        with traces.span("a", parent=PARENT) as span:
            assert not span.is_recording()
            assert traces.current() is None
            assert traces.headers() == {}
            assert traces.ids() == {}

    def test_opentelemetrys_own_switch_turns_it_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        traces.start(ends_at("http://127.0.0.1:9"), "0")
        assert not traces.on()

    @pytest.mark.parametrize("wrong", ["collector:4318", "ftp://collector", "http://", "grpc://collector:4317"])
    def test_what_is_no_address_stops_the_start(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="not an http"):
            ends_at(wrong)


class TestParents:
    @pytest.mark.parametrize(
        "broken",
        [
            "",
            "x",
            f"00-{'0' * 32}-{CLIENT}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"ff-{TRACE}-{CLIENT}-01",
            PARENT + "-x" * 999,
        ],
    )
    def test_a_traceparent_that_is_none_begins_a_trace(self, spans: Recorded, broken: str) -> None:
        with traces.span("a", parent=broken):
            pass
        assert spans.one("a").parent is None
        assert trace_id(spans.one("a")) != TRACE

    def test_a_good_one_is_gone_on_with_and_given_on(self, spans: Recorded) -> None:
        with traces.span("a", parent=PARENT):
            given = traces.headers()["traceparent"]
        assert trace_id(spans.one("a")) == TRACE
        assert parent_id(spans.one("a")) == CLIENT
        assert given == f"00-{TRACE}-{span_id(spans.one('a'))}-01"

    def test_one_that_is_not_sampled_is_kept_and_not_recorded(self, spans: Recorded) -> None:
        with traces.span("a", parent=f"00-{TRACE}-{CLIENT}-00"):
            kept = traces.current()
        assert kept is not None
        assert kept.startswith(f"00-{TRACE}-")
        assert kept.endswith("-00")
        assert spans.all() == []

    def test_what_a_job_was_begun_in_is_not_its_parent(self, spans: Recorded) -> None:
        with traces.span("outer"), traces.span("job", parent=""):
            pass
        assert spans.one("job").parent is None

    async def test_two_at_once_do_not_become_each_others_parents(self, spans: Recorded) -> None:
        async def one(name: str) -> None:
            with traces.span(name, parent=""):
                await asyncio.sleep(0)
                with traces.span(f"{name} inner"):
                    await asyncio.sleep(0)

        await asyncio.gather(one("a"), one("b"))
        for name in "ab":
            assert parent_id(spans.one(f"{name} inner")) == span_id(spans.one(name))


class TestErrors:
    def test_an_error_is_told_by_its_slug_alone(self, spans: Recorded) -> None:
        with pytest.raises(ProviderTimeout), traces.span("a"):
            raise ProviderTimeout("https://secret.example/?key=sk-secret")
        span = spans.one("a")
        assert not span.status.is_ok
        assert span.attributes == {"error.type": "provider-timeout"}
        assert "secret" not in span.to_json()

    def test_another_error_by_its_type(self, spans: Recorded) -> None:
        with pytest.raises(KeyError), traces.span("a"):
            raise KeyError("sk-secret")
        assert spans.one("a").attributes == {"error.type": "KeyError"}
        assert "secret" not in spans.one("a").to_json()


class TestCalls:
    def test_a_call_is_counted_by_what_came_of_it(self, spans: Recorded) -> None:
        counted = {
            outcome: Counting("deskterior_provider_calls_total", provider="openai", model="m", outcome=outcome)
            for outcome in ("ok", "provider-timeout", "http-429", "http-4xx", "cancelled", "failed")
        }
        with outside_call("openai", "m"):
            pass
        for status in (429, 418):
            with outside_call("openai", "m") as call:
                call.answered(status)
        for error in (ProviderTimeout("late"), asyncio.CancelledError(), ZeroDivisionError()):
            with pytest.raises(type(error)), outside_call("openai", "m"):
                raise error
        assert {outcome: count.grown for outcome, count in counted.items()} == dict.fromkeys(counted, 1)
        assert [span.status.is_ok for span in spans.all()].count(False) == 5
        assert {span.name for span in spans.all()} == {"openai m"}

    @pytest.mark.parametrize("status", [0, 99, 600, 999, 1234])
    def test_a_status_that_is_none_does_not_make_a_label_of_its_own(self, status: int) -> None:
        with outside_call("naver", "shop") as call:
            call.answered(status)
        assert call.outcome == "http-other"


class TestRequests:
    def test_a_request_has_its_route_and_status_and_no_path(self, spans: Recorded) -> None:
        with traced("/tasks/{id}", "GET", lambda: 503, "r-1", PARENT):
            pass
        span = spans.one("GET /tasks/{id}")
        assert span.attributes == {
            "http.request.method": "GET",
            "http.route": "/tasks/{id}",
            "deskterior.request_id": "r-1",
            "http.response.status_code": 503,
            "error.type": "503",
        }
        assert trace_id(span) == TRACE

    def test_a_method_that_is_none_names_no_span(self, spans: Recorded) -> None:
        with traced("other", "X" * 300, lambda: 404, "r-1", None):
            pass
        (span,) = spans.all()
        assert span.name == "other"
        assert span.attributes is not None
        assert span.attributes["http.request.method"] == "other"


class TestLogs:
    def test_a_log_line_has_the_ids_of_the_open_span(self, spans: Recorded) -> None:
        event: dict[str, Any] = {"event": "x"}
        with traces.span("a", parent=PARENT):
            said = dict(trace_ids(None, "", dict(event)))
        assert said == {"event": "x", "trace_id": TRACE, "span_id": span_id(spans.one("a"))}
        assert trace_ids(None, "", dict(event)) == event


class TestCollectors:
    async def test_what_is_traced_has_come_when_the_process_has_stopped(self) -> None:
        with collector() as to:
            traces.start(ends_at(to.url), "1.2", "desk-classifier")
            with traces.span("a", parent=PARENT, attributes={"deskterior.photos": 3}):
                pass
            await traces.stop()
            (span,) = to.spans()
        assert (span.service, span.name, span.trace_id, span.parent_id) == (
            "deskterior-desk-classifier",
            "a",
            TRACE,
            CLIENT,
        )
        assert span.attributes == {"deskterior.photos": "3"}
        assert not traces.on()

    async def test_a_sampler_is_opentelemetrys_own_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        with collector() as to:
            traces.start(ends_at(to.url), "0")
            with traces.span("a", parent=PARENT):
                pass
            await traces.stop()
            assert to.asked == 0

    @pytest.mark.parametrize("status", [400, 503])
    async def test_a_collector_that_refuses_costs_nothing_but_the_traces(
        self, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(traces, "FLUSH_WITHIN_S", 0.2)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        with collector() as to:
            to.refuse = status
            traces.start(ends_at(to.url), "0")
            with traces.span("a"):
                pass
            await asyncio.to_thread(to.wait_to_be_asked)
            await traces.stop()

    async def test_a_silent_collector_does_not_hold_up_a_stop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(traces, "FLUSH_WITHIN_S", 0.1)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never answers
            traces.start(ends_at(f"http://127.0.0.1:{silent.getsockname()[1]}"), "0")
            with traces.span("a"):
                pass
            with structlog.testing.capture_logs() as said:
                await traces.stop()
        assert [line["event"] for line in said] == ["traces.lost"]


class TestStrangers:
    async def test_neither_photo_hosts_nor_outside_services_hear_of_the_trace(self, spans: Recorded) -> None:
        async with standing_in(lambda _: reply({"items": []})) as other:
            hosts = PhotoHosts(["127.0.0.1"], development=True)
            photos = PhotoDownloader(hosts, max_bytes=1000, timeout_s=30, connections=1)
            shop = Settings(naver_base_url=other.url, naver_client_id="id", naver_client_secret=SecretStr("secret"))
            search = providers(shop, Prompts.load()).search
            assert isinstance(search, NaverSearch)
            openai = openai_client(api_key="sk-key", base_url=other.url, timeout_s=30)
            with traces.span("makeover", parent=PARENT):
                await photos.fetch(f"{other.url}/desk.jpg")
                await search.find(["마우스"])
                await openai.models.with_raw_response.list()
            for client in (photos.aclose, search.aclose, openai.close):
                await client()
        assert len(other.heard) == 3
        for heard in other.heard:
            assert not {"traceparent", "tracestate", "baggage", "b3"} & {name.lower() for name in heard.headers}
