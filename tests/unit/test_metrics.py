"""Figures: labels that stay bounded, processes that share a folder, and what a scrape adds."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import prometheus_client
import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deskterior.config import ROOT, Settings
from deskterior.figures import Figures, State, exposition
from deskterior.front import respelled
from deskterior.gateway.access import TABLE, route_of
from deskterior.gpu import GpuState, gpu_states
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.figures import StoreFigures
from deskterior.telemetry import folder, metrics
from deskterior.telemetry.bentoml import ELSEWHERE, _bounded
from runners.desk_engine import ModelInfo, ScoreHistogram

CARD = json.loads((ROOT / "models" / "desk_classifier" / "model.json").read_text())
MODEL = ModelInfo(
    name="desk_classifier",
    version="2.0",
    digest="sha256:0123456789abcdef",
    classes=("not_desk", "desk"),
    size=224,
    threshold=0.4,
    temperature=1.0,
    device="cpu",
    metrics={},
    score_histogram=ScoreHistogram.model_validate(CARD["score_histogram"]),
)


def scraped(text: str) -> dict[str, float]:
    """Every series and its value."""
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestRoutes:
    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/classify", "/classify"),
            ("/tasks/0123", "/tasks/{id}"),
            ("/tasks/0123/events", "/tasks/{id}/events"),
            ("/files/results/2026/a.png", "/files/{key:path}"),
            ("/app/routers/classify", "/classify"),
            ("/app/routers/v1/generated", "/v1/generate"),
            ("/tasks/a/b/c", "other"),
            ("/tasks/{id}", "/tasks/{id}"),
            ("/classify/", "other"),
            ("/wp-admin.php", "other"),
            ("", "other"),
            ("/classify\n", "other"),
        ],
    )
    def test_a_path_is_told_of_by_its_template(self, path: str, route: str) -> None:
        assert route_of(respelled(path)) == route

    def test_whatever_the_path_there_are_no_more_routes_than_the_table_has(self) -> None:
        paths = [f"/{word}/{number}" for word in ("x", "tasks", "files", "docs", "studio") for number in range(300)]
        assert {route_of(path) for path in paths} <= TABLE.keys() | {"other"}

    def test_bentomls_own_families_are_labelled_alike(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        counter = _bounded(prometheus_client.Counter, route_of)("seen", "", ["endpoint", "code"], registry=registry)
        gauge = _bounded(prometheus_client.Gauge, route_of)("now", "", ["endpoint"], registry=registry)
        for number in range(1000):
            counter.labels(endpoint=f"/nowhere/{number}", code=404).inc()
            with gauge.labels(endpoint=f"/tasks/{number}").track_inprogress():
                pass
        assert registry.get_sample_value("seen_total", {"endpoint": ELSEWHERE, "code": "404"}) == 1000
        assert registry.get_sample_value("now", {"endpoint": "/tasks/{id}"}) == 0
        assert len(scraped(prometheus_client.generate_latest(registry).decode())) == 3  # with the counter's `_created`


COUNTS = """
import os, signal, sys
from deskterior.telemetry import metrics
metrics.VERDICTS.labels("desk").inc(int(sys.argv[1]))
metrics.IN_FLIGHT.labels("quick").inc(int(sys.argv[1]))
metrics.SCORE.labels("m").observe(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
TELLS = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from deskterior.telemetry import folder, metrics
metrics.IN_FLIGHT.labels("quick").inc(5)
folder.settle()
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
LOOKS = """
from deskterior.telemetry import metrics
from deskterior.telemetry.bentoml import _BoundedClient
print(_BoundedClient(str).generate_latest().decode())
"""
MOVES = "from deskterior.telemetry import folder; folder.use(); folder.settle()" + LOOKS
SHARES = """
import os
from deskterior.telemetry import folder
folder.share()
print(os.environ[folder.SETTING], flush=True)
"""
DIES = "import signal; os.kill(os.getpid(), signal.SIGKILL)"
WAITS = "import sys; sys.stdin.read()"


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of ours in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name not in {folder.SETTING, folder.MULTIPROCESS}}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env | environment, check=False, text=True, capture_output=True)


class TestProcesses:
    def test_all_count_into_one_folder_and_the_dead_are_counted_but_not_busy(self, tmp_path: Path) -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        ours.mkdir()
        theirs.mkdir()
        shared = {folder.SETTING: str(ours), folder.MULTIPROCESS: str(theirs)}
        for number in ("2", "3"):
            assert run(COUNTS, number, **shared).returncode == -9
        told = run(TELLS, **shared)
        assert told.returncode == 0, told.stderr
        found = scraped(told.stdout)
        assert found['deskterior_verdicts_total{"verdict": "desk"}'] == 5
        assert found['deskterior_score_bucket{"le": "0.3", "model": "m"}'] == 2
        assert found['deskterior_score_bucket{"le": "0.25", "model": "m"}'] == 0
        assert found['deskterior_requests_in_flight{"kind": "quick"}'] == 5
        assert not list(theirs.iterdir())  # BentoML's folder, which the next service empties

    def test_the_dead_leave_one_file_of_each_kind_however_many_they_were(self, tmp_path: Path) -> None:
        shared = {folder.SETTING: str(tmp_path)}
        for number in range(1, 4):
            assert run(COUNTS, str(number), **shared).returncode == -9
            (tmp_path / "counter_4194305.db").touch()  # killed in the middle of its making; no process has this number
            told = run(TELLS, **shared)
            assert told.returncode == 0, told.stderr
            found = scraped(told.stdout)
            assert found['deskterior_verdicts_total{"verdict": "desk"}'] == sum(range(number + 1))
            assert found['deskterior_score_count{"model": "m"}'] == number
        names = {path.name for path in tmp_path.glob("*.db")}
        assert {"counter_0.db", "histogram_0.db"} < names
        assert len({name.rpartition("_")[2] for name in names}) == 2  # the dead, and the one that told last

    def test_a_process_has_room_for_its_figures_before_the_disk_is_full(self, tmp_path: Path) -> None:
        """They are written through memory, where a full disk is SIGBUS."""
        assert run(COUNTS, "1", **{folder.SETTING: str(tmp_path)}).returncode == -9
        files = {path.name.rpartition("_")[0]: path.stat() for path in tmp_path.glob("*.db")}
        assert {kind: about.st_size for kind, about in files.items()} == folder.ROOM
        assert all(about.st_blocks * 512 >= about.st_size for about in files.values())

    def test_there_is_room_too_on_a_file_system_that_cannot_reserve_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def written(handle: int, offset: int, length: int) -> None:
            """As glibc does it there."""
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_APPEND:
                raise OSError(errno.EBADF, "Bad file descriptor")
            os.pwrite(handle, bytes(length), offset)

        monkeypatch.setattr(os, "posix_fallocate", written)
        monkeypatch.setenv(folder.SETTING, str(tmp_path))
        monkeypatch.setenv(folder.MULTIPROCESS, str(tmp_path))
        folder.use()
        assert sorted(path.stat().st_size for path in tmp_path.glob("*.db")) == sorted(folder.ROOM.values())

    @pytest.mark.parametrize(("program", "how"), [(LOOKS, fcntl.LOCK_EX), (MOVES, fcntl.LOCK_SH)])
    def test_figures_are_not_moved_while_somebody_adds_them_up(self, program: str, how: int, tmp_path: Path) -> None:
        """Or a scrape would count them twice, or not at all."""
        shared = {folder.SETTING: str(tmp_path)}
        assert run(COUNTS, "7", **shared).returncode == -9
        handle = os.open(tmp_path / folder.LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, how)
        other = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env=os.environ | shared, stdout=subprocess.PIPE
        )
        while not re.search(rf"-> FLOCK .* {other.pid} ", Path("/proc/locks").read_text()):
            assert other.poll() is None, "it did not wait"
            time.sleep(0.01)
        assert not (tmp_path / "counter_0.db").exists()
        os.close(handle)
        told, _ = other.communicate()
        assert other.returncode == 0
        assert b'deskterior_verdicts_total{verdict="desk"} 7.0' in told

    def test_the_folder_of_a_service_that_was_killed_goes_with_the_next_start(self, tmp_path: Path) -> None:
        temporary = {"TMPDIR": str(tmp_path)}
        killed = Path(run(SHARES + DIES, **temporary).stdout.strip())
        stranger = tmp_path / f"{folder.PREFIX}of-another-make"
        stranger.mkdir()
        assert killed.parent == tmp_path
        assert killed.is_dir()
        lives = subprocess.Popen(
            [sys.executable, "-c", SHARES + WAITS],
            cwd=ROOT,
            env=os.environ | temporary,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert lives.stdout
        living = Path(lives.stdout.readline().strip())
        assert not killed.exists()
        run(SHARES, **temporary)
        assert living.is_dir()
        lives.communicate("")
        assert [path.name for path in tmp_path.iterdir()] == [stranger.name]

    def test_each_service_has_a_folder_of_its_own_that_ends_with_it(self) -> None:
        made = {run(SHARES).stdout.strip() for _ in range(2)}
        assert len(made) == 2
        assert not any(Path(name).exists() for name in made)

    def test_what_a_service_starts_counts_with_it(self, tmp_path: Path) -> None:
        assert run(SHARES, **{folder.SETTING: str(tmp_path)}).stdout.strip() == str(tmp_path)
        assert tmp_path.exists()

    def test_a_folder_that_is_gone_is_not_used(self, tmp_path: Path) -> None:
        made = run(SHARES, **{folder.SETTING: str(tmp_path / "gone")}).stdout.strip()
        assert made
        assert made != str(tmp_path / "gone")


class TestAScrape:
    def state(self, store: StoreFigures | None = None, gpus: list[GpuState] | None = None) -> State:
        settings = Settings(spend_cap_usd_per_day=7)
        return State(settings, store, gpus or [], MODEL, 0.5)

    def test_tells_what_waits_and_what_is_spent(self) -> None:
        store = StoreFigures({("v1", "queued"): 3}, {"queued": 12.5, "running": 0.0}, 2, 60.0, 4, 1.25, 0.5)
        found = scraped(exposition(self.state(store)))
        assert found["deskterior_job_store_up{}"] == 1
        assert found['deskterior_tasks{"kind": "v1", "status": "queued"}'] == 3
        assert found['deskterior_tasks{"kind": "v2", "status": "running"}'] == 0
        assert found['deskterior_oldest_task_seconds{"status": "queued"}'] == 12.5
        assert found["deskterior_callbacks_waiting{}"] == 2
        assert found["deskterior_spent_today_usd{}"] == 1.25
        assert found["deskterior_spend_cap_usd{}"] == 7
        assert found["deskterior_score_threshold{}"] == 0.5

    def test_says_nothing_of_a_job_store_that_does_not_answer_but_that(self) -> None:
        found = scraped(exposition(self.state()))
        assert found["deskterior_job_store_up{}"] == 0
        assert not [name for name in found if name.startswith(("deskterior_tasks{", "deskterior_spent"))]

    def test_the_reference_of_scores_is_the_cards(self) -> None:
        found = scraped(exposition(self.state()))
        label = '"le": "0.4", "model": "2.0-01234567"'
        desks, others = CARD["score_histogram"]["desk"], CARD["score_histogram"]["not_desk"]
        told = found[f'deskterior_reference_score_cdf{{"class": "desk", {label}}}']
        assert told == pytest.approx(sum(desks[:8]) / sum(desks))
        told = found[f'deskterior_reference_score_cdf{{"class": "not_desk", {label}}}']
        assert told == pytest.approx(sum(others[:8]) / sum(others))

    def test_its_edges_are_those_of_the_scores_that_are_counted(self) -> None:
        """By their text: that is how Prometheus joins them."""
        metrics.SCORE.labels("edges").observe(0.5)
        counted = scraped(prometheus_client.generate_latest(prometheus_client.REGISTRY).decode())
        found = scraped(exposition(self.state()))
        edges = {json.loads(name[len("deskterior_score_bucket") :])["le"] for name in counted if "score_bucket" in name}
        told = {json.loads(name[len("deskterior_reference_score_cdf") :])["le"] for name in found if "_cdf" in name}
        assert told == edges - {"+Inf"}

    def test_a_gpu_that_does_not_tell_something_has_no_series_of_it(self) -> None:
        gpus = [
            GpuState("0 L4", True, 0.5, 10, 20, 60),
            GpuState("1 slice", True, None, 1, 2, 50),
            GpuState("2", False),
        ]
        found = scraped(exposition(self.state(gpus=gpus)))
        assert found['deskterior_gpu_utilisation_ratio{"gpu": "0 L4"}'] == 0.5
        assert 'deskterior_gpu_utilisation_ratio{"gpu": "1 slice"}' not in found
        assert found['deskterior_gpu_memory_bytes{"gpu": "1 slice"}'] == 2
        assert found['deskterior_gpu_up{"gpu": "2"}'] == 0
        assert 'deskterior_gpu_memory_bytes{"gpu": "2"}' not in found

    async def test_the_job_store_is_asked_once_however_many_scrape(self) -> None:
        asked = []

        async def store() -> StoreFigures:
            asked.append(1)
            return StoreFigures()

        figures = Figures(Settings(), store, lambda: (MODEL, 0.5))
        texts = [await figures.text() for _ in range(5)]
        assert len(asked) == 1
        assert len(set(texts)) == 1

    async def test_a_job_store_that_is_away_does_not_take_the_scrape_along(self) -> None:
        async def store() -> StoreFigures:
            raise DatabaseAway("gone")

        text = await Figures(Settings(), store, lambda: (MODEL, 0.5)).text()
        assert "deskterior_job_store_up 0.0" in text


class TestGpus:
    def test_a_machine_without_a_driver_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

        monkeypatch.setattr(pynvml, "nvmlInit", missing)
        assert gpu_states() == []

    def test_one_that_is_lost_is_told_of_and_the_others_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def memory(handle: int) -> Any:
            if handle == 1:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return type("", (), {"used": 3, "total": 9})

        def busy(_: int) -> Any:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

        for name, made in {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _: "L4",
            "nvmlDeviceGetMemoryInfo": memory,
            "nvmlDeviceGetUtilizationRates": busy,
            "nvmlDeviceGetTemperature": lambda *_: 61,
        }.items():
            monkeypatch.setattr(pynvml, name, made)
        assert gpu_states() == [GpuState("0 L4", True, None, 3, 9, 61), GpuState("1 L4", False)]

    def test_a_driver_that_does_not_answer_is_a_gpu_that_is_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

        monkeypatch.setattr(pynvml, "nvmlInit", broken)
        assert gpu_states() == [GpuState("driver", False)]
