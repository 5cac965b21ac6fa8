"""What every process that serves does for its figures and traces, once."""

from __future__ import annotations

from deskterior import version
from deskterior.telemetry import folder, traces
from deskterior.telemetry.settings import TelemetrySettings


def begin(settings: TelemetrySettings, part: str = "") -> None:
    """As it starts. `part` is what it is beside the API: a runner, a job worker."""
    folder.settle()
    traces.start(settings, version(), part)
