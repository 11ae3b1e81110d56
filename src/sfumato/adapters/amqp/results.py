"""Results as fastsdcpu leaves them: ``<id>-<n>.png`` and one ``<id>.json``, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sfumato.core.job import Job, JobError
from sfumato.core.ports import ImageStore, StoredObject, Task


class FlatTaskSink:
    """The ``TaskSink`` port. The document comes last: whoever finds it finds every picture."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    async def started(self, task: Task) -> None:
        """fastsdcpu leaves nothing behind before it is done."""

    async def succeeded(self, task: Task, job: Job, images: Sequence[StoredObject]) -> None:
        for number, image in enumerate(images, start=1):
            await self._images.put(
                f"{task.id}-{number}.png", image.data, media_type=image.media_type
            )
        await self._tell(task, _document(job))

    async def failed(self, task: Task, error: JobError) -> None:
        """A document without pictures: who waits for one need not wait for ever."""
        request = task.request
        await self._tell(
            task,
            {
                "prompt": request.prompt,
                "number_of_images": 0,
                "error": {"code": error.code, "message": error.message},
            },
        )

    async def close(self) -> None:
        """The store is closed by whoever opened it."""

    async def _tell(self, task: Task, document: dict[str, Any]) -> None:
        data = json.dumps(document, indent=4).encode()
        await self._images.put(f"{task.id}.json", data, media_type="application/json")


def _document(job: Job) -> dict[str, Any]:
    """What fastsdcpu writes beside its pictures, with the values that hold here."""
    request, used = job.request, job.settings
    return {
        "lcm_model_id": used.model,
        "openvino_lcm_model_id": "",
        "use_offline_model": True,
        "use_lcm_lora": False,
        "lcm_lora": {"base_model_id": "", "lcm_lora_id": ""},
        "use_tiny_auto_encoder": False,
        "use_openvino": False,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "strength": None,
        "image_height": used.height,
        "image_width": used.width,
        "inference_steps": used.num_inference_steps,
        "guidance_scale": used.guidance_scale,
        "number_of_images": len(job.images),
        "seed": used.seed,
        "use_seed": True,
        "use_safety_checker": False,
        "diffusion_task": "text_to_image",
        "lora": {"weight": None, "fuse": False, "enabled": False},
        "controlnet": None,
        "rebuild_pipeline": False,
    }
