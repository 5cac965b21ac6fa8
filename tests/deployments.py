"""What the tests of deploy/ share: the environment names that mean something, and settings as a deployed process reads
them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

from deskterior.config import ROOT, Settings, load

DEPLOY = ROOT / "deploy"
SETTINGS = frozenset(name.upper() for name in Settings.model_fields)
AWS = frozenset({"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
"""Of the AWS SDK's own, those that deployments use."""
PROCESS = frozenset({"BENTOML_HOME", "HOME"})
"""What BentoML and the C library ask of a process whose root cannot be written."""
UNDERSTOOD = SETTINGS | AWS | PROCESS


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment of a deployed process: `values` and nothing of this one's."""
    with patch.dict(os.environ, values, clear=True):
        yield


def settings_from(values: Mapping[str, str]) -> Settings:
    """The settings of a process with this environment. Raises SettingsError as its start would."""
    unknown = values.keys() - UNDERSTOOD
    assert not unknown, f"the service does not know {sorted(unknown)}"
    with environment(values):
        return load()


def env_file(text: str) -> dict[str, str]:
    """`NAME=value` lines. Raises AssertionError for a line that is neither that nor a comment."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert all(re.match(r"[A-Z][A-Z0-9_]*=", line) for line in lines), lines
    return dict(line.split("=", 1) for line in lines)
