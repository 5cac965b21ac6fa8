"""The settings of traces, as a part of the one settings class. OpenTelemetry reads its other `OTEL_*` by itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class TelemetrySettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    otel_exporter_otlp_endpoint: str = ""
    """Where traces are sent, by OTLP over HTTP (`http://collector:4318`). Empty: there are none."""
    otel_service_name: str = "deskterior"
    """What traces call this service; a runner's have its own name behind it."""

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("is not an http(s) address")
        return value.rstrip("/")
