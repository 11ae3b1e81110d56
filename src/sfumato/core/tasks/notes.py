"""A job that was a task says so in its notes: all that its answers need stays with it."""

from __future__ import annotations

from dataclasses import replace

from sfumato.core.job import Job
from sfumato.core.request import GenerationRequest
from sfumato.core.tasks.answers import Answer
from sfumato.core.tasks.messages import ParsedTask, TaskFormat

_NOTE = "task"
#: Parameters that the request has anyway.
_PROMPTS = ("prompt", "negative_prompt")


def noted(request: GenerationRequest, task: ParsedTask) -> GenerationRequest:
    """The request with the task's note in its metadata.

    Raises:
        InvalidRequest: the note is too long to be kept.
    """
    note = {
        "format": task.format.value,
        "folder": task.folder,
        "runtime": task.runtime,
        "parameters": {k: v for k, v in task.parameters.items() if k not in _PROMPTS},
        "context": task.context,
    }
    return replace(request, metadata={**request.metadata, _NOTE: note})


def answer_to(job: Job) -> Answer | None:
    """How the task that a job was is answered; None: it was none.

    Notes are the caller's own, and may look like a task's without being it.
    """
    prompts = {name: getattr(job.request, name) for name in _PROMPTS}
    try:
        note = job.request.metadata[_NOTE]
        task = ParsedTask(
            asked=job.request,
            format=TaskFormat(note["format"]),
            id=str(job.request.metadata["id_task"]),
            folder=str(note["folder"]),
            runtime=str(note["runtime"]),
            parameters={**prompts, **note["parameters"]},
            context=note["context"],
        )
    except (KeyError, TypeError, ValueError):
        return None
    return Answer(task, job.id, job.created_at)
