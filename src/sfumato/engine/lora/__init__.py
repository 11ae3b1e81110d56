"""Small changes to a network's layers, per slot: LoRA and its kin, never merged into the weights.

A file's names are mapped to a model's layers (:mod:`.names`) and its tensors become changes of
these (:mod:`.reading`, :mod:`.changes`), which are added to the layers' answers for the rows of the
slots that asked for them (:mod:`.layers`).
"""

from sfumato.engine.lora.layers import Adaptable, Changes, RowGroup, RowLoras, grouped
from sfumato.engine.lora.names import SECOND_TEXT, TEXT, UNET
from sfumato.engine.lora.reading import Lora, read_lora

__all__ = [
    "SECOND_TEXT",
    "TEXT",
    "UNET",
    "Adaptable",
    "Changes",
    "Lora",
    "RowGroup",
    "RowLoras",
    "grouped",
    "read_lora",
]
