"""What a prompt says, in the syntax that A1111's users write: pure Python, linear in its length.

A text is read in four passes, in A1111's order: ``<lora:name:0.8>`` is taken out; ``AND`` splits
what is left into prompts that steer together (:mod:`.grammar`); ``[a:b:0.5]`` and ``[a|b]`` choose
a text for each step (:mod:`.schedules`); ``(x:1.3)``, ``[x]``, ``\\(`` and ``BREAK`` weigh that
text's parts (:mod:`.emphasis`). Their tokens then go into chunks (:mod:`.chunks`).

No text is an error to the parser: brackets without a partner and all that is not syntax are text.
"""

from sfumato.core.prompts.chunks import Chunk, split_into_chunks
from sfumato.core.prompts.emphasis import Break, Weighted, parse_emphasis
from sfumato.core.prompts.grammar import (
    MAX_PROMPTS_TOGETHER,
    Network,
    Prompt,
    WeightedPrompt,
    check_prompts,
    parse_negative,
    parse_prompt,
    prompt_notes,
)
from sfumato.core.prompts.schedules import Template, parse_template

__all__ = [
    "MAX_PROMPTS_TOGETHER",
    "Break",
    "Chunk",
    "Network",
    "Prompt",
    "Template",
    "Weighted",
    "WeightedPrompt",
    "check_prompts",
    "parse_emphasis",
    "parse_negative",
    "parse_prompt",
    "parse_template",
    "prompt_notes",
    "split_into_chunks",
]
