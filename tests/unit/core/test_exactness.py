from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.errors import NotFound
from sfumato.core.exactness import Difference, Verdict
from sfumato.core.models import ModelKind
from sfumato.core.recipe import Recipe, Weights
from sfumato.core.request import Determinism

RECIPE = Recipe("a castle", "", "m", "ab" * 32, 8, 8, 8, 8, 1, 1.0, "euler", 1)
LORA = Weights(ModelKind.LORA, "ink", "cd" * 32)


@pytest.mark.parametrize(
    ("determinism", "greatest", "same", "said"),
    [
        ("strict", 0, True, "the same pixels"),
        ("fast", 0, True, "the same pixels"),
        ("strict", 1, False, "differs by at most 1/255 in 25 % of the pixels"),
        (
            "fast",
            2,
            True,
            "differs by at most 2/255 in 25 % of the pixels, which fast determinism allows",
        ),
        ("fast", 3, False, "differs by at most 3/255 in 25 % of the pixels"),
    ],
)
def test_how_close_it_must_be_follows_from_its_determinism(
    determinism: str, greatest: int, same: bool, said: str
) -> None:
    recipe = replace(RECIPE, determinism=Determinism(determinism))
    verdict = Verdict.of(recipe, recipe, Difference(greatest, 0.25 if greatest else 0.0))
    assert (verdict.same, str(verdict), verdict.reasons) == (same, said, ())


def test_another_size_is_never_the_same() -> None:
    verdict = Verdict.of(RECIPE, RECIPE, None)
    assert (verdict.same, str(verdict)) == (False, "of another size")


def test_other_contents_of_a_lora_are_found_where_both_digests_are_known() -> None:
    first = replace(RECIPE, weights=(LORA,))
    unknown = replace(RECIPE, weights=(replace(LORA, sha256=""),))
    assert Verdict.of(first, unknown, Difference(0, 0.0)).same
    with pytest.raises(NotFound, match="the lora 'ink' has other contents"):
        Verdict.of(
            first, replace(RECIPE, weights=(replace(LORA, sha256="ef" * 32),)), Difference(0, 0.0)
        )
