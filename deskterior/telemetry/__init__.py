"""What the service tells of itself: logs, metrics and traces.

`logs` writes lines. `metrics` has every family that is counted, `folder` is where several processes leave their
figures, and `bentoml` keeps BentoML's own families bounded; what the job store, the GPU and the model tell at a scrape
is collected by `deskterior.figures`. `traces` are OpenTelemetry's. `requests` and `calls` measure what comes in and
what goes out.
"""

from deskterior.telemetry.logs import LOUD, OURS, configure_logging, request_id

__all__ = ["LOUD", "OURS", "configure_logging", "request_id"]
