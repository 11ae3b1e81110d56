"""Tasks: requests as the AWS samples for Stable Diffusion write them, from a queue or over HTTP.

Pure functions: what a message says decides what comes out. Nothing a message names is fetched.
"""

from sfumato.core.tasks.answers import Answer, failure_of
from sfumato.core.tasks.messages import (
    NotATask,
    ParsedTask,
    TaskFormat,
    is_id,
    parse_task,
    parse_v0,
    parse_v1alpha2,
    read_object,
)
from sfumato.core.tasks.notes import answer_to, noted
from sfumato.core.tasks.parameters import KINDS, TEXT_TO_IMAGE, Edit

__all__ = [
    "KINDS",
    "TEXT_TO_IMAGE",
    "Answer",
    "Edit",
    "NotATask",
    "ParsedTask",
    "TaskFormat",
    "answer_to",
    "failure_of",
    "is_id",
    "noted",
    "parse_task",
    "parse_v0",
    "parse_v1alpha2",
    "read_object",
]
