"""The page of the API, with Swagger UI from this server: no script comes from elsewhere, or stands in the page."""

import html
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse, Response

from tabserve.errors import printable

# Addresses are relative: a proxy may add a prefix.
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<link rel="stylesheet" href="static-offline-docs/swagger-ui.css">
<link rel="icon" href="static-offline-docs/favicon.png"></head>
<body><div id="docs"></div>
<script src="static-offline-docs/swagger-ui-bundle.js"></script><script src="docs.js"></script></body>
</html>
"""

# With a key, the document is loaded again: without, it has no limits, labels and examples.
SCRIPT = """\
let key = "";
const reload = (given) => (original, system) => (payload) => {
  key = given(payload);
  original(payload);
  system.specActions.download();
};
window.ui = SwaggerUIBundle({
  requestInterceptor: (request) => {
    if (request.loadSpec && key) request.headers["X-API-Key"] = key;
    return request;
  },
  plugins: [{ statePlugins: { auth: { wrapActions: {
    authorize: reload((payload) => Object.values(payload)[0].value),
    logout: reload(() => ""),
  } } } }],
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  showCommonExtensions: true,
  validatorUrl: null,
});
"""

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def add(app: FastAPI) -> None:
    """Add `/docs`, and what it loads."""
    app.mount("/static-offline-docs", StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        title = html.escape(printable(app.title))
        return HTMLResponse(PAGE.format(title=title), headers={"content-security-policy": POLICY})

    @app.get("/docs.js", include_in_schema=False)
    async def script() -> Response:
        return Response(SCRIPT, media_type="text/javascript")
