"""The page: static files from ``sfumato/ui``, and ``/``, which is also the seeds' health check."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).parent.parent / "ui"

#: The page loads nothing from elsewhere and runs no inline code. Previews are data URLs; pictures
#: that only a key shows are fetched into blobs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

router = APIRouter()


@router.head("/", include_in_schema=False)
@router.get("/", tags=["health"], response_class=JSONResponse)
async def root(request: Request) -> Response:
    """`"OK"` to a probe; the page to a browser, which asks for `text/html`."""
    if "text/html" in request.headers.get("accept", ""):
        return FileResponse(_FOLDER / "index.html", headers={**_HEADERS, "Vary": "Accept"})
    return JSONResponse("OK", headers={"Vary": "Accept"})


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API's reference, to read and try; its files come with us, not from elsewhere."""
    prefix = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title=f"{request.app.title} - reference",
        swagger_js_url=f"{prefix}/swagger/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}/swagger/swagger-ui.css",
        swagger_favicon_url=f"{prefix}/ui/icon.svg",
    )


def install(app: FastAPI) -> None:
    """Add the page and the reference. ``app`` must not serve ``/docs`` itself."""
    app.include_router(router)
    swagger = StaticFiles(packages=[("fastapi_swagger", "resources")])
    app.mount("/swagger", swagger, name="swagger")
    app.mount("/ui", _PageFiles(directory=_FOLDER), name="ui")
