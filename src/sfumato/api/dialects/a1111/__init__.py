"""``/sdapi/v1``: the API of A1111's web UI, as its clients, scripts and plugins speak it.

The contract is that of ``modules/api`` in AUTOMATIC1111/stable-diffusion-webui 1.10, with ControlNet
as its extension by Mikubill has it. What A1111 keeps once for everybody (progress, interrupt,
options) is each caller's own here.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter

from sfumato.api.dialects.a1111 import errors, extras, generating, lists, options, progress, system
from sfumato.api.problems import Form

router = APIRouter(responses=errors.RESPONSES)
for _part in (generating, extras, progress, options, lists, system):
    router.include_router(_part.router)

forms: Mapping[str, Form] = dict.fromkeys(("/sdapi/", "/controlnet/", "/internal/"), errors.form)
