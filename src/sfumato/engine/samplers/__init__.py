"""Every sampler is a table of coefficients, one row an evaluation of the network.

:mod:`.tables` says what a row does and applies rows to a whole batch; :mod:`.grids` chooses the noise
levels that a sampler visits; the other modules hold one kind of solver each.
"""

from sfumato.engine.samplers.registry import table_for
from sfumato.engine.samplers.tables import Coefficients, Mixture, SamplerTable, State, advance

__all__ = ["Coefficients", "Mixture", "SamplerTable", "State", "advance", "table_for"]
