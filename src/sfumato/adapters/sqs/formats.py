"""Tasks as other systems write them: three formats of one API over A1111's parameters.

=========  =======================================================  =============================
format     the message                                              its results lie below
=========  =======================================================  =============================
v0         A1111's parameters, and in ``alwayson_scripts`` the       ``<id_task>/``
           ``task``, ``id_task`` and ``sd_model_checkpoint``
v1alpha1   the same with ``save_dir`` beside them                    ``<save_dir>/<id_task>/``
v1alpha2   ``metadata`` (``id``, ``runtime``, ``tasktype``,          ``<prefix>/<id>/``
           ``prefix``, ``context``) and ``content``, A1111's
=========  =======================================================  =============================

Pure functions: what a message says decides what comes out. Nothing a message names is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sfumato.adapters.sqs.envelopes import read_object
from sfumato.core.errors import InvalidRequest
from sfumato.core.request import GenerationRequest
from sfumato.core.samplers import resolve_sampler

_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: What is used of an id in the names of results.
_ID_IN_NAMES = 64

_TEXT_TO_IMAGE = "text-to-image"
_OTHER_KINDS = ("image-to-image", "extra-single-image", "extra-batch-image", "pipeline")

#: Entries of ``alwayson_scripts`` that are no scripts: they route a task, or settle its model.
_ROUTING = frozenset(
    {
        "task",
        "id_task",
        "uid",
        "sd_model_checkpoint",
        "image_link",
        "save_dir",
        "sd_vae",
        "override_settings",
    }
)
#: Parameters that would change the picture in ways this engine has not.
_NOT_DRAWN = ("enable_hr", "restore_faces", "tiling", "styles", "init_images", "script_name")


class NotATask(InvalidRequest):
    """A message without what it takes to answer it: it belongs in the dead-letter queue."""


class TaskFormat(StrEnum):
    V0 = "v0"
    V1ALPHA1 = "v1alpha1"
    V1ALPHA2 = "v1alpha2"


@dataclass(frozen=True, slots=True)
class ParsedTask:
    """What a message asks for, and how it wants to be answered.

    Attributes:
        asked: the request, or why there can be none.
        id: the sender's own name for the task; a second one may have the same.
        folder: below this lie its results.
        parameters: A1111's, as they came, to be repeated in the answer.
        context: whatever the sender wants back, as it came.
    """

    asked: GenerationRequest | InvalidRequest
    format: TaskFormat
    id: str
    folder: str
    runtime: str
    parameters: Mapping[str, Any]
    context: Any


def parse_task(text: str) -> ParsedTask:
    """Read a message of any of the formats.

    Raises:
        NotATask: it is none, or names no place where an answer may be put.
    """
    data = read_object(text)
    if data is None:
        raise NotATask("It is no JSON object.")
    inner = data.get("task")
    if isinstance(inner, dict) and "metadata" in inner:
        data = inner
    if "metadata" in data:
        return _parse_v1alpha2(data)
    if "alwayson_scripts" in data:
        return _parse_v0(data)
    raise NotATask("It has neither metadata nor alwayson_scripts.")


def _parse_v0(data: Mapping[str, Any]) -> ParsedTask:
    header = data["alwayson_scripts"]
    if not isinstance(header, dict):
        raise NotATask("alwayson_scripts is no object.")
    name = _id(header.get("id_task"), "id_task")
    save_dir = header.get("save_dir")
    parameters = {
        key: value
        for key, value in data.items()
        if key not in ("alwayson_scripts", "sdname", "s3_output_path")
    }
    return ParsedTask(
        asked=_asked(header.get("task"), parameters, header, name),
        format=TaskFormat.V0 if save_dir is None else TaskFormat.V1ALPHA1,
        id=name,
        folder=_folder(save_dir, name, "save_dir"),
        runtime=_text(data.get("sdname")),
        parameters=parameters,
        context={},
    )


def _parse_v1alpha2(data: Mapping[str, Any]) -> ParsedTask:
    metadata, content = data["metadata"], data.get("content")
    if not isinstance(metadata, dict):
        raise NotATask("metadata is no object.")
    name = _id(metadata.get("id"), "id")[:_ID_IN_NAMES]
    parameters, header = _content(content)
    return ParsedTask(
        asked=_asked(metadata.get("tasktype"), parameters, header, name)
        if isinstance(content, dict)
        else InvalidRequest("content is missing, or no object.", field="content"),
        format=TaskFormat.V1ALPHA2,
        id=name,
        folder=_folder(metadata.get("prefix"), name, "prefix"),
        runtime=_text(metadata.get("runtime")),
        parameters=parameters,
        context=metadata.get("context", {}),
    )


def _content(content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and what v1alpha1 keeps in ``alwayson_scripts``."""
    if not isinstance(content, dict):
        return {}, {}
    header = content.get("alwayson_scripts")
    parameters = {key: value for key, value in content.items() if key != "alwayson_scripts"}
    return parameters, header if isinstance(header, dict) else {}


def _asked(
    kind: Any, parameters: Mapping[str, Any], header: Mapping[str, Any], name: str
) -> GenerationRequest | InvalidRequest:
    try:
        _check_kind(kind)
        _check_drawn(parameters, header)
        return _request(parameters, header, name)
    except InvalidRequest as error:
        return error


def _check_kind(kind: Any) -> None:
    if kind == _TEXT_TO_IMAGE:
        return
    if kind in _OTHER_KINDS:
        raise InvalidRequest(
            f"Tasks of the type {kind} are not drawn here.",
            field="task",
            accepted=[_TEXT_TO_IMAGE],
        )
    raise InvalidRequest("Unsupported task type.", field="task", accepted=[_TEXT_TO_IMAGE])


def _check_drawn(parameters: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Refuse what would be another picture than the one asked for, rather than leave it out."""
    scripts = [script if script.isidentifier() else "…" for script in header.keys() - _ROUTING]
    named = [name for name in _NOT_DRAWN if parameters.get(name)]
    if header.get("image_link"):
        named.append("alwayson_scripts.image_link")
    named.extend(f"alwayson_scripts.{script}" for script in sorted(scripts))
    if named:
        raise InvalidRequest(
            f"{', '.join(named)[:200]}: not drawn here.",
            field=named[0][:80],
            accepted="text to image without it",
        )


def _request(
    parameters: Mapping[str, Any], header: Mapping[str, Any], name: str
) -> GenerationRequest:
    sampler, schedule = _sampler(parameters)
    seed = _whole(parameters, "seed")
    images = [_whole(parameters, field) for field in ("n_iter", "batch_size")]
    rounds, size = (1 if count is None else count for count in images)
    if min(rounds, size) < 1:
        raise InvalidRequest("n_iter and batch_size are at least 1.", field="batch_size")
    return GenerationRequest(
        prompt=parameters.get("prompt") or "",
        negative_prompt=parameters.get("negative_prompt") or "",
        model=_model(parameters, header),
        width=_whole(parameters, "width"),
        height=_whole(parameters, "height"),
        num_inference_steps=_whole(parameters, "steps"),
        guidance_scale=_number(parameters, "cfg_scale"),
        seed=None if seed == -1 else seed,
        num_images=rounds * size,
        sampler=sampler,
        schedule=schedule,
        metadata={"id_task": name},
    )


def _sampler(parameters: Mapping[str, Any]) -> tuple[str | None, str | None]:
    sampler = parameters.get("sampler_name") or parameters.get("sampler_index")
    schedule = parameters.get("scheduler")
    schedule = schedule if isinstance(schedule, str) and schedule else None
    return resolve_sampler(sampler, schedule) if isinstance(sampler, str) else (None, schedule)


def _model(parameters: Mapping[str, Any], header: Mapping[str, Any]) -> str | None:
    """The checkpoint's name as the model catalogue has it: no folder, ending or hash."""
    settings = [header.get("override_settings"), parameters.get("override_settings")]
    overridden = [found.get("sd_model_checkpoint") for found in settings if isinstance(found, dict)]
    for title in (header.get("sd_model_checkpoint"), *overridden):
        if isinstance(title, str) and title.strip():
            file = re.sub(r"\s*\[[0-9a-f]+\]$", "", title.strip()).replace("\\", "/")
            return re.sub(r"\.(safetensors|ckpt)$", "", file.rpartition("/")[2])
    return None


def _whole(parameters: Mapping[str, Any], field: str) -> int | None:
    """A whole number, also as A1111 takes it: 20.0, "20"."""
    number = _number(parameters, field)
    if number is None or isinstance(number, int):
        return number
    if not number.is_integer():
        raise InvalidRequest(f"{field} is no whole number.", field=field)
    return int(number)


def _number(parameters: Mapping[str, Any], field: str) -> float | None:
    value = parameters.get(field)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value.strip()):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}\.\d{0,20}", value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{field} is no number.", field=field)
    return value


def _id(value: Any, field: str) -> str:
    """Keys derive from it, so it must not lead anywhere else."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise NotATask(f"{field} is missing, or more than letters, digits, - and _.")
    return text


def _folder(above: Any, name: str, field: str) -> str:
    if above is None or above == "":
        return name
    segments = above.strip("/").split("/") if isinstance(above, str) else []
    if not segments or any(
        not _SEGMENT.fullmatch(segment) or segment in (".", "..") for segment in segments
    ):
        raise NotATask(f"{field} is no folder's name of letters, digits, '.', - and _.")
    return "/".join([*segments, name])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
