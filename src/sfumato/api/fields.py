"""Kinds of fields that the bodies of several routes have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

MAX_NAME = 200


def bounds(low: float, high: float) -> dict[str, Any]:
    """JSON Schema's words for a range that the core checks."""
    return {"minimum": low, "maximum": high}


def _whole(value: object) -> object:
    """JSON has one kind of number: 2.0 is 2, and one beyond 64 bits is read as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digits(value: object) -> object:
    """A seed may come as text: JavaScript's numbers lose the last digits of a large one."""
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20
    return int(str(value)) if is_digits else value


Name = Annotated[str, Field(max_length=MAX_NAME)]
Whole = Annotated[int, BeforeValidator(_whole)]
Digits = Annotated[Whole, BeforeValidator(_digits, json_schema_input_type=int | str)]
