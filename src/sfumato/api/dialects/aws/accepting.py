"""A task becomes a job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from sfumato.api.context import ApiContext
from sfumato.api.dialects.words import in_their_words
from sfumato.api.inputs import read_picture
from sfumato.core.errors import IdempotencyConflict, InvalidRequest
from sfumato.core.job import Job
from sfumato.core.request import GenerationRequest
from sfumato.core.runtimes import Runtime
from sfumato.core.tasks import ParsedTask, TaskFormat, noted
from sfumato.core.webhooks import Webhook, WebhookEvent

#: The style of the webhooks that are told in this API's form.
STYLE = "aws"
#: What A1111 calls our fields.
_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "num_images": "n_iter × batch_size",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "model": "sd_model_checkpoint",
    "vae": "sd_vae",
    "clip_skip": "CLIP_stop_at_last_layers",
    "strength": "denoising_strength",
    "inpainting.mask": "mask",
    "inpainting.blur": "mask_blur",
    "inpainting.padding": "inpaint_full_res_padding",
    "metadata": "context",
}


async def submit(
    context: ApiContext, task: ParsedTask, *, runtime: Runtime | None, base: str
) -> Job:
    """The task's job; sent again, the job made first.

    Args:
        runtime: None: the first that serves the model.
        base: address at which the caller reached the service.

    Raises:
        InvalidRequest: in A1111's words.
        IdempotencyConflict: the caller has another task of this id in this folder.
    """
    with in_their_words(_NAMES):
        if isinstance(task.asked, InvalidRequest):
            raise task.asked
        request = noted(_routed(task.asked, context, runtime), task)
        request, files = await _with_pictures(context, request, task)
        try:
            return await context.submission.submit(
                request,
                inputs=files,
                idempotency_key=_key(task.folder),
                webhook=_webhook(context, task, base),
            )
        except IdempotencyConflict:
            raise IdempotencyConflict(
                f"The id {task.id!r} is another task's of yours, with results at {task.folder!r}. "
                "Take a new id; send the same payload to hear of the same task."
            ) from None


async def find(context: ApiContext, folder: str) -> Job | None:
    """The caller's own task whose results lie in a folder."""
    return await context.tracking.find_by_key(_key(folder))


def _routed(
    request: GenerationRequest, context: ApiContext, runtime: Runtime | None
) -> GenerationRequest:
    """A runtime whose models are fixed draws with the first of them where the task names none."""
    if runtime is None:
        return request
    model = request.model
    if model is None and runtime.models and not runtime.serves(context.catalog.get(None).name):
        model = runtime.models[0]
    return replace(request, runtime=runtime.name, model=model)


async def _with_pictures(
    context: ApiContext, request: GenerationRequest, task: ParsedTask
) -> tuple[GenerationRequest, Mapping[str, bytes]]:
    if task.edit is None:
        return request, {}
    images, files = {}, {}
    for field, value in task.edit.pictures.items():
        images[field], data = await read_picture(value, context.tracking, context.web, field=field)
        files[images[field].sha256] = data
    return task.edit.applied(request, images), files


def _webhook(context: ApiContext, task: ParsedTask, base: str) -> Webhook | None:
    """The webhook of the caller's key, to be told in this API's form; v0 knows no ``running``.

    Where results go to a bucket, that is told of too, whatever the key's webhook chose.
    """
    hook = None if context.caller.key is None else context.caller.key.webhook
    told = {WebhookEvent.SUCCEEDED, WebhookEvent.FAILED, WebhookEvent.CANCELED}
    if task.format is TaskFormat.V1ALPHA2:
        told.add(WebhookEvent.STARTED)
    if context.task_results_url is not None:
        return Webhook("" if hook is None else hook.url, frozenset(told), STYLE, base)
    if hook is None:
        return None
    return replace(hook, style=STYLE, base=base, events=hook.events & told)


def _key(folder: str) -> str:
    return f"aws:{hashlib.sha256(folder.encode()).hexdigest()}"
