"""What pydantic complains of, in our words: they never quote the value, which may be a prompt."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

#: pydantic's name of a type error -> what would have been right.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "list_type": "a list",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
#: Its names of other errors -> the sentence; it tells the bounds.
_SENTENCES = {
    "missing": "{name} is missing.",
    "enum": "{name} must be {expected}.",
    "literal_error": "{name} must be {expected}.",
    "greater_than": "{name} must be above {gt}.",
    "greater_than_equal": "{name} must be at least {ge}.",
    "less_than": "{name} must be below {lt}.",
    "less_than_equal": "{name} must be at most {le}.",
    "string_too_long": "{name} is longer than {max_length} characters.",
    "string_too_short": "{name} is too short; characters: at least {min_length}.",
    "too_short": "{name} is too short a list; entries: at least {min_length}.",
    "too_long": "{name} is too long a list; entries: at most {max_length}.",
}


def complaint(error: ErrorDetails, name: str) -> str:
    """One of them as a sentence about the field ``name``."""
    kind = error["type"]
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(name=name, **error.get("ctx", {}))
    if kind in _EXPECTED:
        return f"{name} must be {_EXPECTED[kind]}, not {kind_of(error['input'])}."
    return f"{name}: {error['msg']}."


def kind_of(value: Any) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        str: "text",
        dict: "an object",
        list: "a list",
        float: "a number with a fraction",
    }
    return kinds.get(type(value), "a number")
