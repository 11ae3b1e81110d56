"""The HTTP application, put together from its routers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from sfumato import __version__
from sfumato.api import (
    costs,
    health,
    native,
    page,
    problems,
    webhooks,
    worker,
    worker_models,
    workers,
)
from sfumato.api.context import ApiContext
from sfumato.api.dialects import DIALECTS
from sfumato.api.observing import Observing

#: What a page of another origin may read of an answer.
_EXPOSED = [
    "Location",
    "Preference-Applied",
    "Retry-After",
    "X-Sfumato-Job",
    "X-Sfumato-Seed",
    "traceparent",
]


def create_app(
    context: ApiContext,
    *,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The service's HTTP side over services that are ready to be called.

    Args:
        lifespan: entered before the first request is served, left after the last.
    """
    app = FastAPI(
        title="Stable Diffusion Inference API",
        version=__version__,
        description="Sfumato: pictures from prompts, on GPUs that exist only while they are "
        "needed. Errors are `application/problem+json` with a stable `code`.",
        lifespan=lifespan,
        docs_url=None,  # served by the page's module, without another site's files
        redoc_url=None,
    )
    app.state.context = context
    # Routes are tried one by one: what is asked most often stands first.
    for module in (native, worker, workers, webhooks, health):
        _add(app, module.router)
    for dialect in DIALECTS:
        _add(app, dialect.router)
        dialect.install(app)
    _add(app, worker_models.router)
    _add(app, costs.router)
    _add(app, native.models_router)
    page.install(app)
    forms = {prefix: form for dialect in DIALECTS for prefix, form in dialect.forms.items()}
    problems.install(app, stopping=context.stopping, forms=forms)
    # Outside of those: an error's answer must be readable by another origin's page too.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )
    app.add_middleware(Observing, traces=context.traces, measures=context.measures)
    return app


def _add(app: FastAPI, router: APIRouter) -> None:
    """Its routes, as they are: ``include_router`` makes each anew for every app, and looks for what
    a request asks twice. Ours have no prefix and no dependency to be given on the way."""
    app.router.routes.extend(router.routes)
