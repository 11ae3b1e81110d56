"""A wrong field in words that say what would be right, whatever pydantic calls it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from sfumato.api.body import checked
from sfumato.api.problems import Refusal
from sfumato.core.errors import InvalidRequest


class Asked(BaseModel):
    """One field of each kind."""

    quality: Literal["low", "high"] = Field("low", description="low or high.")
    images: list[str] = Field(default_factory=list, min_length=1, max_length=2)
    name: str = Field("x", min_length=1, max_length=3)
    count: int = Field(1, ge=1, le=64)
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    loud: bool = False


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("quality", "ultra", "quality must be 'low' or 'high'."),
        ("images", [], "images is too short a list; entries: at least 1."),
        ("images", ["a"] * 3, "images is too long a list; entries: at most 2."),
        ("name", "", "name is too short; characters: at least 1."),
        ("name", "wxyz", "name is longer than 3 characters."),
        ("count", 0, "count must be at least 1."),
        ("count", 65, "count must be at most 64."),
        ("count", 1.5, "count must be a whole number, not a number with a fraction."),
        ("count", "12a", "count must be a whole number, not text."),
        ("share", 0, "share must be above 0.0."),
        ("share", 1, "share must be below 1.0."),
        ("share", "half", "share must be a number, not text."),
        ("loud", "maybe", "loud must be true or false, not text."),
    ],
)
def test_every_complaint_is_a_sentence_of_ours(field: str, value: object, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(Asked, {field: value})
    assert (caught.value.field, caught.value.message) == (field, said)


@pytest.mark.parametrize(
    ("accepted", "sentence"),
    [
        (None, "n is 0."),
        ([], "n is 0."),
        ("1 to 10.", "n is 0. Accepted: 1 to 10."),
        (["a", "b"], "n is 0. Accepted: a, b."),
    ],
)
def test_one_sentence_has_it_all(accepted: str | list[str] | None, sentence: str) -> None:
    refusal = Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "n is 0.", "n", accepted)
    assert refusal.sentence == sentence
