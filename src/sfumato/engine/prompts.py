"""From a prompt to the embeddings that steer the network, with the model's own tokenizer."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from sfumato.core.errors import ModelUnusable
from sfumato.engine.weights import read_json

if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPTextModel

_START, _END = "<|startoftext|>", "<|endoftext|>"
#: CLIP's own split of a text into words, before their bytes are paired.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
#: Embeddings kept: of prompts that come again, and of the empty negative prompt above all.
_CACHED = 64
_SHOWN_WORDS = 12


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """``embeddings``: (tokens, width), on the model's device. ``cut``: the words left out."""

    embeddings: Tensor
    cut: tuple[str, ...]

    def note(self, name: str) -> str | None:
        """What the caller should know of a prompt that was too long."""
        if not self.cut:
            return None
        shown = " ".join(self.cut[:_SHOWN_WORDS])
        more = " …" if len(self.cut) > _SHOWN_WORDS else ""
        words = "word was" if len(self.cut) == 1 else f"{len(self.cut)} words were"
        return f"the {name}'s last {words} cut: {shown}{more}"


class ClipTokenizer:
    """CLIP's byte-pair encoding.

    Args:
        tokenizer: encodes without special tokens, truncation or padding.
        start, end, pad: ids that frame the tokens and fill what is left of the length.
    """

    def __init__(self, tokenizer: Tokenizer, *, start: int, end: int, pad: int) -> None:
        self._tokenizer = tokenizer
        self._start, self._end, self._pad = start, end, pad

    @classmethod
    def from_folder(cls, folder: Path) -> ClipTokenizer:
        """From a diffusers model's ``tokenizer/``, as ``tokenizer.json`` or vocabulary and merges.

        Raises:
            ModelUnusable: naming the file at fault.
        """
        whole = folder / "tokenizer.json"
        try:
            if whole.is_file():
                tokenizer = Tokenizer.from_file(str(whole))
                tokenizer.no_truncation()
                tokenizer.no_padding()
            else:
                vocabulary, merges = models.BPE.read_file(
                    str(folder / "vocab.json"), str(folder / "merges.txt")
                )
                tokenizer = _clip_tokenizer(vocabulary, merges)
        except Exception as error:  # noqa: BLE001  # tokenizers raises bare Exception
            raise ModelUnusable(f"{folder} holds no usable tokenizer: {error}.") from None
        return cls._framed(tokenizer, _special_tokens(folder), folder)

    @classmethod
    def bundled(cls, *, pad: str = _END) -> ClipTokenizer:
        """OpenAI's vocabulary of 49,408 tokens, which SD 1 and 2 share.

        Args:
            pad: SD 1 pads with the end token, SD 2 with ``!``, as its open_clip did with id 0.
        """
        packed = resources.files("sfumato.engine") / "data" / "clip_merges.txt.gz"
        lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
        letters = _byte_letters()
        words = [*letters, *(letter + "</w>" for letter in letters)]
        words += [left + right for left, right in merges] + [_START, _END]
        tokenizer = _clip_tokenizer({word: n for n, word in enumerate(words)}, merges)
        return cls._framed(tokenizer, {"pad_token": pad}, Path(str(packed)))

    @classmethod
    def _framed(cls, tokenizer: Tokenizer, names: dict[str, str], source: Path) -> ClipTokenizer:
        ids = {}
        defaults = {"bos_token": _START, "eos_token": _END, "pad_token": _END}
        for role, default in defaults.items():
            name = names.get(role, default)
            found = tokenizer.token_to_id(name)
            if found is None:
                raise ModelUnusable(f"{source} names {role} {name!r}, not in its vocabulary.")
            ids[role] = found
        return cls(tokenizer, start=ids["bos_token"], end=ids["eos_token"], pad=ids["pad_token"])

    def encode(self, text: str, length: int) -> tuple[list[int], tuple[str, ...]]:
        """Exactly ``length`` ids, and the words of ``text`` that did not fit whole."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        room = length - 2
        ids = list(encoding.ids)
        cut: tuple[str, ...] = ()
        if len(ids) > room:
            begin = encoding.offsets[room][0]
            while begin > 0 and not text[begin - 1].isspace():
                begin -= 1
            ids, cut = ids[:room], tuple(text[begin:].split())
        framed = [self._start, *ids, self._end]
        return framed + [self._pad] * (length - len(framed)), cut


class PromptEncoder:
    """Tokenizer and text encoder of one model, with a cache of what was encoded last.

    Args:
        network: a ``CLIPTextModel``, whose last hidden state the denoiser was trained on.
        length: tokens a prompt is padded or cut to, start and end included.
    """

    def __init__(self, tokenizer: ClipTokenizer, network: CLIPTextModel, length: int) -> None:
        self._tokenizer = tokenizer
        self._network = network
        self._length = length
        self._cache: OrderedDict[str, EncodedPrompt] = OrderedDict()

    def encode(self, text: str) -> EncodedPrompt:
        known = self._cache.pop(text, None)
        if known is None:
            ids, cut = self._tokenizer.encode(text, self._length)
            batch = torch.tensor([ids], device=self._network.device)
            known = EncodedPrompt(self._network(input_ids=batch).last_hidden_state[0], cut)
        self._cache[text] = known
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return known


def _clip_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The pipeline of transformers' ``CLIPTokenizer``, without importing transformers for it."""
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=_END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([_START, _END])
    return tokenizer


def _special_tokens(folder: Path) -> dict[str, str]:
    """``bos_token``, ``eos_token`` and ``pad_token`` as the tokenizer's config names them."""
    named: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / file
        if not path.is_file():
            continue
        for role, token in read_json(path).items():
            text = token.get("content") if isinstance(token, dict) else token
            if role in ("bos_token", "eos_token", "pad_token") and isinstance(text, str):
                named[role] = text
    return named


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in CLIP's order: the printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
