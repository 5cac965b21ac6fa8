"""The settings of jobs, as a part of the one settings class: who runs them, and how many at once."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EMBEDDED = "embedded"
MOST_WORKERS = 64


class JobSettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    job_workers: str = EMBEDDED
    """Who runs makeovers and callbacks: `embedded` (the API processes), a number of job workers beside the API, or `0`
    where job workers are started apart (`bentoml serve deskterior.job_worker:JobWorker`) on the same `DATABASE_URL`."""
    jobs_concurrency: int = Field(default=200, ge=1)
    """Makeovers running at once in one process."""
    render_concurrency: int = Field(default=8, ge=1)
    """Pictures drawn at once in one process."""
    render_per_minute: int = Field(default=0, ge=0)
    """Paid pictures started in a minute over all processes; 0 is no limit."""
    task_retention_days: int = Field(default=365, ge=0, le=36_500)
    """Days after its end for which a task is kept, with its events, its pictures and its idempotency key; then it is
    removed as by `DELETE /tasks/{id}`. 0 is for ever."""
    executor_ttl_s: float = Field(default=15.0, gt=0)
    """A job executor silent for so long is dead and its jobs are taken over."""

    @field_validator("job_workers")
    @classmethod
    def _workers(cls, value: str) -> str:
        if value != EMBEDDED and not (value.isascii() and value.isdigit() and int(value) <= MOST_WORKERS):
            raise ValueError(f"is neither {EMBEDDED} nor a number of processes, 0 to {MOST_WORKERS}")
        return value

    @property
    def api_runs_jobs(self) -> bool:
        """Whether the API's own processes run jobs; otherwise they only queue them."""
        return self.job_workers == EMBEDDED

    @property
    def job_workers_beside(self) -> int:
        """Job workers that the API's main process starts."""
        return 0 if self.api_runs_jobs else int(self.job_workers)
