"""What a scrape tells of the GPUs of this machine, for whichever process is asked: the API or a runner."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deskterior.gpu import GpuState, gpu_states


def gpu_families(gpus: list[GpuState]) -> Iterator[Metric]:
    """Of a machine without a GPU, families without series."""
    up = GaugeMetricFamily("deskterior_gpu_up", "Whether the GPU answers.", labels=["gpu"])
    busy = GaugeMetricFamily("deskterior_gpu_utilisation_ratio", "Time in which it worked.", labels=["gpu"])
    used = GaugeMetricFamily("deskterior_gpu_memory_used_bytes", "Memory in use.", labels=["gpu"])
    total = GaugeMetricFamily("deskterior_gpu_memory_bytes", "Memory that there is.", labels=["gpu"])
    heat = GaugeMetricFamily("deskterior_gpu_temperature_celsius", "Temperature of the chip.", labels=["gpu"])
    for gpu in gpus:
        up.add_metric([gpu.name], int(gpu.up))
        told = ((busy, gpu.utilisation), (used, gpu.memory_used), (total, gpu.memory), (heat, gpu.celsius))
        for family, value in told:
            if value is not None:
                family.add_metric([gpu.name], value)
    yield from (up, busy, used, total, heat)


def gpu_text() -> str:
    """What a runner adds to its own figures."""
    registry = CollectorRegistry()
    registry.register(_Gpus())
    return generate_latest(registry).decode()


class _Gpus(Collector):
    def collect(self) -> Iterator[Metric]:
        yield from gpu_families(gpu_states())
