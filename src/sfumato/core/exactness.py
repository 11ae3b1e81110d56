"""How far a picture that was drawn again is from the first, and what may explain it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sfumato.core.errors import NotFound
from sfumato.core.models import ModelKind
from sfumato.core.recipe import Recipe, Weights
from sfumato.core.request import Determinism

#: The greatest difference, of 255, between two ``fast`` pictures of one request.
FAST_TOLERANCE = 2


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two pictures: the greatest of any channel, 0 to 255, and the share of pixels with any."""

    greatest: int
    share: float

    def within(self, determinism: Determinism) -> bool:
        """Whether two pictures of one request may be so far apart."""
        return self.greatest <= (FAST_TOLERANCE if determinism is Determinism.FAST else 0)

    def __str__(self) -> str:
        if not self.greatest:
            return "the same pixels"
        return f"differs by at most {self.greatest}/255 in {100 * self.share:.3g} % of the pixels"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a picture that was drawn again.

    Attributes:
        same: whether it is the same, or as close as its determinism promises.
        difference: None where even the sizes differ.
        reasons: what may explain a difference, in words.
    """

    determinism: Determinism
    same: bool
    difference: Difference | None
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, first: Recipe, again: Recipe, difference: Difference | None) -> Verdict:
        """Raises ``NotFound`` where the two were not drawn with the same weights."""
        if changed := list(changed_weights(first, again)):
            raise NotFound(f"What drew the picture is not here: {'; '.join(changed)}.")
        same = difference is not None and difference.within(first.determinism)
        return cls(first.determinism, same, difference, tuple(explanations(first, again)))

    def __str__(self) -> str:
        if self.difference is None:
            return "of another size"
        if self.same and self.difference.greatest:
            return f"{self.difference}, which fast determinism allows"
        return str(self.difference)


def changed_weights(first: Recipe, again: Recipe) -> Iterator[str]:
    """What has other contents under the same name, in words. Unknown digests are not compared."""
    if first.model_hash != again.model_hash:
        yield (
            f"the model {first.model!r} has other weights here: {again.model_hash[:10]}, and not "
            f"{first.model_hash[:10]}"
        )
    here = {(weights.kind, weights.name): weights for weights in again.weights}
    for weights in first.weights:
        found = here.get((weights.kind, weights.name))
        # The model itself is known by what the engine had loaded.
        itself = weights.kind is ModelKind.BASE and weights.name == first.model
        if not itself and _differ(weights, found):
            yield f"the {weights.kind.value} {weights.name!r} has other contents here"


def explanations(first: Recipe, again: Recipe) -> Iterator[str]:
    """What pixels may depend on beside request and weights, and is not as it was, in words."""
    if first.version != again.version:
        yield f"it was drawn by Sfumato {first.version}, and this is {again.version}"
    for name in sorted({*first.engine, *again.engine}):
        then, now = first.engine.get(name, "not told"), again.engine.get(name, "not told")
        if then != now:
            yield f"{name} was {then}, and is {now}"


def _differ(first: Weights, again: Weights | None) -> bool:
    digests = first.sha256, "" if again is None else again.sha256
    return all(digests) and digests[0] != digests[1]
