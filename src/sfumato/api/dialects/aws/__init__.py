"""The APIs of AWS's samples for Stable Diffusion, which took requests for a queue.

``POST /`` of *Stable Diffusion on EKS* (v0), and ``/v1alpha1`` and ``/v1alpha2`` of its successor, the
*guidance for asynchronous image generation*. A request is answered at once; its results lie where
``output_location`` says. The same payloads come through SNS and SQS; both are read in
:mod:`sfumato.core.tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sfumato.api.dialects.aws.errors import form
from sfumato.api.dialects.aws.results import STYLE, render
from sfumato.api.dialects.aws.routes import accept_v0, router
from sfumato.api.problems import Form

forms: Mapping[str, Form] = dict.fromkeys(("/v1alpha1", "/v1alpha2", "/task-results"), form)

__all__ = ["STYLE", "accept_v0", "form", "forms", "render", "router"]
