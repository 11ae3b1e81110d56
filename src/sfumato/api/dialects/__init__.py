"""Wire APIs that other software already speaks, each a translation to the one job model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI

from sfumato.api.dialects import a1111, aws, generate, kserve, openai, predictions, root
from sfumato.api.problems import Form
from sfumato.api.webhooks import render_native
from sfumato.core.events import Event
from sfumato.core.job import Job
from sfumato.core.webhooks import Telling, WebhookEvent
from sfumato.services.webhooks import Render


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of them.

    Attributes:
        forms: what its errors look like, by how their paths begin; of other paths they are
            problems, as in the native API.
        renders: what makes the bodies of its webhooks, by their styles.
        install: adds to the app what is no route.
    """

    router: APIRouter
    forms: Mapping[str, Form] = field(default_factory=dict)
    renders: Mapping[str, Render] = field(default_factory=dict)
    install: Callable[[FastAPI], None] = lambda _app: None


DIALECTS = (
    Dialect(generate.router),
    Dialect(openai.router, openai.forms),
    Dialect(a1111.router, a1111.forms),
    Dialect(
        predictions.router,
        renders={predictions.STYLE: predictions.render},
        install=predictions.install,
    ),
    Dialect(kserve.router, forms=kserve.forms),
    Dialect(aws.router, forms=aws.forms, renders={aws.STYLE: aws.render}),
    Dialect(root.router, forms=root.forms),
)
_RENDERS = {style: render for dialect in DIALECTS for style, render in dialect.renders.items()}


def render(telling: Telling, job: Job, event: Event, told: WebhookEvent) -> Mapping[str, Any]:
    """A webhook's body, in the form that its style names."""
    return _RENDERS.get(telling.webhook.style, render_native)(telling, job, event, told)
