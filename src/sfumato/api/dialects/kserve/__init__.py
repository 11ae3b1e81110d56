"""KServe: its V1 protocol at ``/v1/models/{name}:predict``, and V2, the Open Inference Protocol, at
``/v2``, so that a pod of this service is a predictor like any other.
"""

from collections.abc import Mapping

from fastapi import APIRouter

from sfumato.api.dialects.kserve import v1, v2
from sfumato.api.dialects.kserve.errors import form
from sfumato.api.problems import Form

__all__ = ["forms", "router"]

router = APIRouter()
for part in (v1, v2):
    router.include_router(part.router)

#: V1 shares its paths' beginning with other APIs, so its routes see to their errors themselves.
forms: Mapping[str, Form] = {"/v2": form}
