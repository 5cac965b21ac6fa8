"""Where a page of tasks ends, as clients hand it back for the next one."""

from __future__ import annotations

import base64
import binascii

from deskterior.errors import Invalid
from deskterior.makeover.tables import TaskRow


def cursor_after(row: TaskRow) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at!r} {row.id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[float, str]:
    try:
        created_at, _, task_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        if len(task_id) == 32 and task_id.isalnum() and (seconds := float(created_at)) == seconds:
            return seconds, task_id
    except (ValueError, binascii.Error):
        pass
    raise Invalid(errors=[{"field": "cursor", "message": "is not the next_cursor of a page"}])
