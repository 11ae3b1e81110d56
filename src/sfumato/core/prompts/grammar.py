"""A whole prompt: the networks it names, and the prompts that steer together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sfumato.core.errors import InvalidRequest
from sfumato.core.prompts.emphasis import unpaired_brackets
from sfumato.core.prompts.schedules import Template, parse_template

#: Each takes a row of the network's batch.
MAX_PROMPTS_TOGETHER = 8
_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^<>]+)>")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))")
_BREAK = re.compile(r"\bBREAK\b")
_MOST_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Network:
    """A small network that the prompt names, as ``<lora:name:0.8>``.

    ``arguments``: what follows the name, a weight first of all.
    """

    kind: str
    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"<{':'.join((self.kind, self.name, *self.arguments))}>"


@dataclass(frozen=True, slots=True)
class WeightedPrompt:
    """One of the prompts that ``AND`` joins."""

    template: Template
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a prompt says. Its ``str``, parsed again, is the same prompt."""

    parts: tuple[WeightedPrompt, ...]
    networks: tuple[Network, ...] = ()

    def __str__(self) -> str:
        texts = [str(part.template) for part in self.parts]
        if len(self.parts) > 1:
            weights = (part.weight for part in self.parts)
            # Digits alone: 1e-05 is no weight.
            digits = (format(Decimal(repr(weight)), "f") for weight in weights)
            texts = [f"{text} :{number}" for text, number in zip(texts, digits, strict=True)]
        return " AND ".join(texts) + "".join(map(str, self.networks))

    def words(self) -> str:
        """All its text, of every step and part, without words that are syntax."""
        return " ".join(_BREAK.sub(" ", part.template.every_word()) for part in self.parts)


def parse_prompt(text: str) -> Prompt:
    """A prompt's networks and parts.

    A number after a part's last colon is its weight, where there are several: a lone prompt may
    end in "16:9".
    """
    networks = tuple(_network(*match.groups()) for match in _NETWORK.finditer(text))
    # A space, lest the text on both sides becomes a word, or a network, of its own.
    parts = [part.strip() for part in _AND.split(_NETWORK.sub(" ", text))]
    if len(parts) == 1:
        return Prompt((WeightedPrompt(parse_template(parts[0])),), networks)
    return Prompt(tuple(map(_weighted, parts)), networks)


def parse_negative(text: str) -> Template:
    """A negative prompt, which has neither parts nor networks: ``AND`` is a word of it."""
    return parse_template(text)


def check_prompts(prompt: str, negative_prompt: str) -> None:
    """Refuse what no engine can follow.

    Raises:
        InvalidRequest: on a hypernetwork, on any network of a negative prompt, or on too many
            prompts at once.
    """
    parsed = parse_prompt(prompt)
    hypernetworks = [network for network in parsed.networks if network.kind == "hypernet"]
    _refuse("prompt", hypernetworks, "which this engine has no code for", "<hypernet:…>")
    _refuse(
        "negative_prompt",
        parse_prompt(negative_prompt).networks,
        "which acts on the whole picture and belongs into the prompt",
        "<lora:…>, <lyco:…> and <hypernet:…>",
    )
    if len(parsed.parts) > MAX_PROMPTS_TOGETHER:
        raise InvalidRequest(
            f"prompt joins {len(parsed.parts)} prompts by AND, each of which the network must "
            "answer at every step.",
            field="prompt",
            accepted=f"at most {MAX_PROMPTS_TOGETHER} prompts joined by AND",
        )


def prompt_notes(name: str, text: str) -> Iterable[str]:
    """What the caller should know of how a prompt was read."""
    count = unpaired_brackets(text)
    if count:
        which = "one bracket" if count == 1 else f"{count} brackets"
        partner = "has no partner" if count == 1 else "have no partners"
        yield (
            f"{which} of the {name} {partner}: one never closed weighs all that follows, "
            "one never opened is text"
        )
    for network in parse_prompt(text).networks:
        places = [argument for argument in network.arguments if "=" not in argument]
        if len(places) > 2 or any(each.startswith("dyn=") for each in network.arguments):
            yield f"{network} is used with its whole rank, not with a part"


def _refuse(field: str, networks: Sequence[Network], why: str, what: str) -> None:
    if networks:
        named = ", ".join(dict.fromkeys(map(str, networks)))
        raise InvalidRequest(
            f"{field} names {named}, {why}. Leave it out.",
            field=field,
            accepted=f"a {field} without {what}",
        )


def _network(kind: str, arguments: str) -> Network:
    name, *others = arguments.split(":")
    return Network(kind, name, tuple(others))


def _weighted(text: str) -> WeightedPrompt:
    head, colon, tail = text.rpartition(":")
    found = _WEIGHT.fullmatch(tail) if colon else None
    if found is None:
        return WeightedPrompt(parse_template(text))
    weight = min(max(float(found.group(1)), -_MOST_WEIGHT), _MOST_WEIGHT)
    return WeightedPrompt(parse_template(head.rstrip()), weight)
