"""Predictions: the wire of Cog's containers, at ``/predictions``, and of Replicate, below ``/v1``.

A prediction is a job: its input is the job's request in other words, and every job is shown as one.
"""

from fastapi import APIRouter

from sfumato.api.dialects.predictions import cog, hosted, models
from sfumato.api.dialects.predictions.asked import STYLE
from sfumato.api.dialects.predictions.document import install
from sfumato.api.dialects.predictions.telling import render

__all__ = ["STYLE", "install", "render", "router"]

router = APIRouter()
for part in (cog, hosted, models):
    router.include_router(part.router)
