"""The schemas that Cog's clients look for in ``/openapi.json``, by their names."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from sfumato.api.body import body_schema
from sfumato.api.dialects.predictions.asked import Input, PredictionRequest
from sfumato.api.schemas import Problem

#: Replicate's client takes a list without ``x-cog-array-type`` for a plain one.
OUTPUT: dict[str, Any] = {
    "type": "array",
    "title": "Output",
    "description": "The pictures, as addresses or data URLs.",
    "items": {"type": "string", "format": "uri"},
}
_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_MOMENT = {"type": ["string", "null"], "format": "date-time"}
PREDICTION: dict[str, Any] = {
    "type": "object",
    "title": "PredictionResponse",
    "properties": {
        "id": _TEXT,
        "model": _TEXT,
        "version": _TEXT,
        "status": {
            "type": "string",
            "enum": ["starting", "processing", "succeeded", "failed", "canceled"],
        },
        "input": {"$ref": "#/components/schemas/Input"},
        "output": {"anyOf": [{"$ref": "#/components/schemas/Output"}, {"type": "null"}]},
        "error": _MAYBE,
        "logs": _TEXT,
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        "created_at": _MOMENT,
        "started_at": _MOMENT,
        "completed_at": _MOMENT,
        "data_removed": {"type": "boolean"},
        "urls": {"type": "object", "additionalProperties": _TEXT},
    },
    "required": ["id", "status", "input", "output", "error", "logs", "metrics", "urls"],
}


def input_schema() -> dict[str, Any]:
    """With ``x-order``, by which Cog's clients sort the fields of a form."""
    schema = body_schema(Input)
    for order, field in enumerate(schema["properties"].values()):
        field["x-order"] = order
    return schema


def _schemas() -> dict[str, Any]:
    request = body_schema(PredictionRequest)
    request["properties"]["input"] = {"$ref": "#/components/schemas/Input"}
    return {
        "Input": input_schema(),
        "Output": OUTPUT,
        "PredictionRequest": request,
        "PredictionResponse": PREDICTION,
    }


#: Cog's components.
SCHEMAS = _schemas()


#: Errors have the native form: Replicate's, ``title``, ``detail`` and ``status``, is a part of it.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "content": {"application/problem+json": {}}} for code in ("4XX", "5XX")
}
#: A page of predictions, for a route's ``responses``.
PREDICTIONS: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "previous": _MAYBE,
                    "next": _MAYBE,
                    "results": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/PredictionResponse"},
                    },
                },
                "required": ["previous", "next", "results"],
            }
        }
    }
}


def answer(description: str) -> dict[str, Any]:
    """An answer that is a prediction, for a route's ``responses``."""
    schema = {"$ref": "#/components/schemas/PredictionResponse"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PredictionRequest"}}
        },
    }
}


def install(app: FastAPI) -> None:
    """Add the schemas to the app's document; the routes refer to them."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document["components"]["schemas"].update(SCHEMAS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
