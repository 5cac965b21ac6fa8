"""The table of figures in docs/telemetry.md, from the code that tells them: `python -m deskterior.metrics_table`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client.metrics import MetricWrapperBase

from deskterior.config import ROOT, Settings
from deskterior.figures import State, families
from deskterior.telemetry import metrics
from runners.desk_engine import ModelInfo

PAGE = ROOT / "docs" / "telemetry.md"
HEAD = "| family | type | labels | |\n|---|---|---|---|\n"
_SECTION = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
_NO_MODEL = ModelInfo(
    name="", version="", digest="", classes=(), size=1, threshold=0, temperature=1, device="", metrics={}
)


def table() -> str:
    return HEAD + "".join(
        f"| `{name}` | {kind} | {labels} | {text} |\n" for name, kind, labels, text in sorted(_rows())
    )


def page() -> str:
    """docs/telemetry.md as it should be."""
    return _SECTION.sub(lambda _: table(), PAGE.read_text())


def _rows() -> Iterator[tuple[str, str, str, str]]:
    counted = [found for found in vars(metrics).values() if isinstance(found, MetricWrapperBase)]
    for one in counted:
        ending = "_total" if one._type == "counter" else ""
        yield f"{one._name}{ending}", str(one._type), _labels(one._labelnames), one._documentation
    told = State(Settings.model_construct(), None, [], _NO_MODEL, 0.0)
    for family in families(told):
        yield family.name, family.type, _labels(getattr(family, "_labelnames", ())), family.documentation


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page())
