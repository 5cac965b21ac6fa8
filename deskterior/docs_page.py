"""The page at /docs: the Swagger UI that BentoML carries, so that it works where no other network is reached.

Its addresses are relative: a gateway may let nothing through but a prefix. It has no script or style of its own within
the page, so that the strict policy of `browsers.py` holds.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deskterior</title>
<link rel="icon" href="docs/assets/favicon-light-32x32.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def serve_docs(app: FastAPI) -> None:
    """Add `/docs` and what it needs."""
    package = Path(str(find_spec("bentoml").origin)).parent  # type: ignore[union-attr]
    app.mount("/docs/assets", StaticFiles(directory=package / "_internal" / "server" / "static_content"))

    async def start() -> Response:
        return Response(START, media_type="text/javascript")

    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE)

    for path, answer in (("/docs/start.js", start), ("/docs", docs)):
        app.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)
