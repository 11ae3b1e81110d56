"""One table from an error's class to its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from sfumato.api.problems import STATUSES, BodyTooLarge, Refusal, problem, status_of
from sfumato.core.errors import InvalidRequest, Overloaded, SfumatoError, StoreBusy, UnknownModel


def family(kind: type[SfumatoError]) -> Iterator[type[SfumatoError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


@pytest.mark.parametrize(
    "kind",
    # An adapter's own kinds, without a code, are told as the nearest class above them.
    [
        kind
        for kind in family(SfumatoError)
        if kind.__module__.startswith("sfumato.") and "code" in vars(kind)
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_stands_in_the_table_with_a_status_for_errors(kind: type[SfumatoError]) -> None:
    assert kind in STATUSES
    assert STATUSES[kind] >= 400


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in STATUSES]
    assert len(set(codes)) == len(codes)


def test_a_class_of_later_takes_the_status_of_the_class_above() -> None:
    class TooShort(InvalidRequest):
        pass

    assert status_of(TooShort("too short")) is HTTPStatus.UNPROCESSABLE_ENTITY


def test_a_problem_names_code_field_and_what_is_accepted() -> None:
    answer = problem(
        Refusal.of(UnknownModel("There is no model 'x'.", field="model", accepted=["starter"]))
    )
    assert answer.status_code == 422
    assert answer.media_type == "application/problem+json"
    assert json.loads(answer.body) == {
        "type": "urn:problem-type:sfumato:unknown_model",
        "title": "Unknown model",
        "status": 422,
        "detail": "There is no model 'x'.",
        "code": "unknown_model",
        "field": "model",
        "accepted": ["starter"],
    }


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(Overloaded("full", retry_after=9.2), "10"), (StoreBusy("locked"), "2")],
)
def test_what_may_pass_says_when_to_come_back(error: SfumatoError, seconds: str) -> None:
    assert problem(Refusal.of(error)).headers["Retry-After"] == seconds


def test_what_stays_wrong_asks_nobody_to_come_back() -> None:
    assert "Retry-After" not in problem(Refusal.of(BodyTooLarge("too large"))).headers


def test_a_long_message_is_cut() -> None:
    detail = json.loads(problem(Refusal.of(InvalidRequest("x" * 100_000))).body)["detail"]
    assert len(detail) < 1100
