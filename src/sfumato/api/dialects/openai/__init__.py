"""OpenAI's Images API: ``/v1/images/``, and what its clients read of ``/v1/models``.

The contract is that of OpenAI's reference and of its Python package's types.
"""

from __future__ import annotations

from collections.abc import Mapping

from sfumato.api.dialects.openai import errors, images
from sfumato.api.problems import Form

router = images.router
forms: Mapping[str, Form] = {"/v1/images/": errors.form, "/v1/models": errors.model_form}

__all__ = ["forms", "router"]
