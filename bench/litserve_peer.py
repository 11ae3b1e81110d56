"""The engine benchmark's peer: LitServe with dynamic batching over a diffusers pipeline.

``python -m bench.litserve_peer FOLDER PORT`` serves the model in FOLDER. A batch that LitServe
collects is split into what a pipeline can draw together: requests of one size, step count, guidance
and sampler. Two such groups wait for each other, as they do wherever a pipeline is called whole.
"""

from __future__ import annotations

import base64
import io
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import litserve

SCHEDULERS = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
}
MOST = 16
#: Seconds for which LitServe waits for company; longer gained nothing in trials.
PATIENCE = 0.05

Asked = dict[str, Any]


class Peer(litserve.LitAPI):  # type: ignore[misc]  # untyped
    """One worker, as we have one."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=MOST, batch_timeout=PATIENCE, api_path="/predict")
        self._folder = folder

    def setup(self, device: str) -> None:
        import diffusers  # noqa: PLC0415 - in the worker's process alone
        import torch  # noqa: PLC0415

        self._pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            self._folder, dtype=torch.float32, safety_checker=None
        ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        config = self._pipeline.scheduler.config
        self._schedulers = {
            name: getattr(diffusers, kind).from_config(config) for name, kind in SCHEDULERS.items()
        }

    def batch(self, inputs: Sequence[Asked]) -> Sequence[Asked]:
        return inputs

    def predict(self, requests: Sequence[Asked] | Asked) -> list[Any]:
        import torch  # noqa: PLC0415

        alike = defaultdict(list)
        for index, request in enumerate(requests):
            names = ("width", "height", "num_inference_steps", "guidance_scale", "sampler")
            alike[tuple(request[name] for name in names)].append(index)
        pictures: dict[int, Any] = {}
        for (width, height, steps, guidance, sampler), members in alike.items():
            self._pipeline.scheduler = self._schedulers[sampler]
            drawn = self._pipeline(
                [requests[index]["prompt"] for index in members],
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(requests[n]["seed"]) for n in members],
            ).images
            pictures.update(zip(members, drawn, strict=True))
        return [pictures[index] for index in range(len(requests))]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, str]:
        buffer = io.BytesIO()
        output.save(buffer, "PNG")
        return {"image": base64.b64encode(buffer.getvalue()).decode()}


def main() -> None:
    folder, port = sys.argv[1:]
    server = litserve.LitServer(Peer(folder), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, num_api_servers=1)


if __name__ == "__main__":
    main()
