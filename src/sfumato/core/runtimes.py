"""Runtimes: named pools of workers, and which one serves a request."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.charges import Price
from sfumato.core.errors import UnknownRuntime


@dataclass(frozen=True, slots=True)
class Runtime:
    """A named pool of workers.

    Attributes:
        models: the models it serves; empty for every model in the catalogue.
        max_workers: how many workers it may have at once in one region.
        idle_timeout: seconds without work after which a worker stops.
        gpu_class: the class of GPU that its workers have; empty: not told.
        price: what an hour of one costs; None: it has none.
    """

    name: str
    models: tuple[str, ...] = ()
    max_workers: int = 1
    idle_timeout: float = 300.0
    gpu_class: str = ""
    price: Price | None = None

    def serves(self, model: str) -> bool:
        return not self.models or model in self.models


def choose_runtime(runtimes: Sequence[Runtime], *, name: str | None, model: str) -> Runtime:
    """The runtime that the request names, else the first that serves its model.

    Raises:
        UnknownRuntime: no runtime of that name, or none that serves the model.
    """
    names = [runtime.name for runtime in runtimes]
    if name is None:
        for runtime in runtimes:
            if runtime.serves(model):
                return runtime
        raise UnknownRuntime(
            f"No runtime serves the model {model!r}.", field="model", accepted=names
        )
    for runtime in runtimes:
        if runtime.name == name:
            if not runtime.serves(model):
                raise UnknownRuntime(
                    f"The runtime {name!r} does not serve the model {model!r}.",
                    field="runtime",
                    accepted=[r.name for r in runtimes if r.serves(model)],
                )
            return runtime
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownRuntime(f"There is no runtime {name!r}.{hint}", field="runtime", accepted=names)
