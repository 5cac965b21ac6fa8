"""One execution of a task's job, as its stages see it. What it writes down, the journal does."""

from __future__ import annotations

from dataclasses import dataclass, field

from deskterior.makeover.tables import StageRow, TaskRow


class Superseded(Exception):
    """This run may go no further: its task was cancelled, or another run has it now."""


@dataclass
class Run:
    """One execution of a task's job. `done` has the JSON result of each finished stage, by its name."""

    task: TaskRow
    token: str
    done: dict[str, str]
    calls: dict[str, list[StageRow]] = field(default_factory=dict)
    stepped: bool = False
    """Whether a drawing of this run has told of its steps."""
    begun: dict[tuple[str, int], float] = field(default_factory=dict)
    """When each stage of this run began, by name and number."""
    traceparent: str = ""
    """Of the request that the task comes from."""

    def paid_in_vain(self, stage: str) -> int:
        """Calls in this attempt that may have been billed and came to nothing. The first that was interrupted, by no
        fault of its own, does not count."""
        calls = [call for call in self.calls.get(stage, []) if call.attempt == self.task.attempts and call.cost]
        return len(calls) - any(call.state == "interrupted" for call in calls)
