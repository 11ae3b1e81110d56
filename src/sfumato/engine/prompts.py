"""From a prompt to the embeddings that steer the network, with the model's own tokenizer."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.prompts import Break, Chunk, parse_emphasis, split_into_chunks
from sfumato.engine.additions import NOTHING, Additions
from sfumato.engine.embeddings import LearnedWords
from sfumato.engine.lora import SECOND_TEXT, TEXT, Adaptable, RowGroup, RowLoras
from sfumato.engine.network import Encoded
from sfumato.engine.text_encoders import Ids, Reading, TextEncoder
from sfumato.engine.weights import read_json

_START, _END = "<|startoftext|>", "<|endoftext|>"
#: CLIP's own split of a text into words, before their bytes are paired.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
#: Of one text, and of all texts that one picture's prompts become.
MAX_CHUNKS = 64
_MAX_CHUNKS_TOGETHER = 256
#: Embeddings kept: of prompts that come again, and of the empty negative prompt above all.
_CACHED_CHUNKS = 512
#: Chunks that a GPU is given at once; so few leave it idle anyway. An estimate, not measured.
_CUDA_ROWS = 4

#: A text, its clip skip, and what of the additions decides how it is read.
_Key = tuple[str, int, Hashable]


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
                tokenizer = _of_files(
                    (folder / "vocab.json").read_bytes(), (folder / "merges.txt").read_bytes()
                )
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

    @property
    def comma(self) -> int | None:
        """The id of a comma that ends a word."""
        found: int | None = self._tokenizer.token_to_id(",</w>")
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, without frame or padding."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def frame(self, ids: Sequence[int], length: int) -> list[int]:
        """Exactly ``length`` ids: start, at most ``length - 2`` of a text, end, padding."""
        framed = [self._start, *ids, self._end]
        return framed + [self._pad] * (length - len(framed))


class PromptEncoder:
    """Tokenizer and text encoders of one model, with a cache of what was encoded last.

    Several encoders read the same tokens, and the network attends to what they say side by side.
    The text in one vector is that of its first chunk, as in A1111 and ComfyUI.

    Chunks are encoded in batches of one fixed size, filled up where too few: kernels add in
    another order for another number of rows, so an embedding's last bits would else depend on
    what happened to be in the cache.

    Args:
        tokenizer: splits the texts.
        encoders: of one length. The last may sum the text up in one vector.
        zeros_for_empty: whether the network was trained on zeros where a picture has no negative
            prompt (``force_zeros_for_empty_prompt`` in diffusers).

    Attributes:
        adaptables: the text encoders, by diffusers' names of them.
    """

    def __init__(
        self,
        tokenizer: ClipTokenizer,
        encoders: Sequence[TextEncoder],
        *,
        zeros_for_empty: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._encoders = encoders
        self._length = encoders[0].length
        self._rows = _CUDA_ROWS if encoders[0].device.type == "cuda" else 1
        self.zeros_for_empty = zeros_for_empty
        self.adaptables = {
            name: Adaptable(encoder.network)
            for name, encoder in zip((TEXT, SECOND_TEXT), encoders, strict=False)
        }
        self._cache: OrderedDict[_Key, Encoded] = OrderedDict()
        self._cached_chunks = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the tokens of each text encoder."""
        return tuple(encoder.width for encoder in self._encoders)

    @property
    def width(self) -> int:
        """Of what the network attends to."""
        return sum(encoder.width for encoder in self._encoders)

    @property
    def pooled_width(self) -> int | None:
        """Of the text in one vector; None where no encoder makes such."""
        projection = self._encoders[-1].projection
        return None if projection is None else projection.shape[0]

    def encode(
        self, texts: Sequence[str], clip_skip: int = 1, additions: Additions = NOTHING
    ) -> list[Encoded]:
        """Each text, (chunks × length) tokens long, on the model's device.

        Args:
            clip_skip: which of an encoder's layers to take, counted from the last, which is 1; see
                :meth:`sfumato.engine.text_encoders.TextEncoder.read`.
            additions: LoRAs of the text encoders, and words that they were taught later.

        Raises:
            InvalidRequest: the texts are too long, or the network has fewer layers.
        """
        layers = min(encoder.layers for encoder in self._encoders)
        if clip_skip > layers:
            raise InvalidRequest(
                f"clip_skip is {clip_skip}, but this model's text encoder has {layers} layers.",
                field="clip_skip",
                accepted=f"a whole number from 1 to {layers}",
            )
        keys = {text: (text, clip_skip, additions.key(text)) for text in texts}
        known = {text: self._cache.get(key) for text, key in keys.items()}
        unknown = [text for text, found in known.items() if found is None]
        chunks = self._chunks(unknown, additions.words)
        distinct = dict.fromkeys(chunk.ids for found in chunks.values() for chunk in found)
        readings = self._read(list(distinct), clip_skip, additions)
        encoded = []
        for text, found in known.items():
            if found is None:
                found = _joined(chunks[text], readings)  # noqa: PLW2901
            self._keep(keys[text], found)
            encoded.append(found)
        return encoded

    def _chunks(self, texts: Sequence[str], words: LearnedWords) -> dict[str, list[Chunk]]:
        chunks, count, room = dict[str, list[Chunk]](), 0, self._length - 2
        for text in texts:
            runs = [
                run
                if isinstance(run, Break)
                else (words.encode(run.text, self._tokenizer), run.weight)
                for run in parse_emphasis(text)
            ]
            found = split_into_chunks(
                runs, room=room, comma=self._tokenizer.comma, lengths=words.lengths
            )
            chunks[text] = found
            count += len(found)
            if len(found) > MAX_CHUNKS:
                raise InvalidRequest(
                    f"A prompt has {len(found)} chunks of {room} tokens; a token is about a word.",
                    accepted=f"at most {MAX_CHUNKS} chunks, or {MAX_CHUNKS * room:,} tokens",
                )
            if count > _MAX_CHUNKS_TOGETHER:
                raise InvalidRequest(
                    f"The prompts change with the step into more than {len(chunks) - 1} texts, "
                    f"which together have more than {_MAX_CHUNKS_TOGETHER} chunks of {room} tokens.",
                    accepted="fewer alternatives, or shorter prompts",
                )
        return chunks

    def _read(
        self, wanted: Sequence[Ids], clip_skip: int, additions: Additions
    ) -> dict[Ids, tuple[Reading, ...]]:
        """What each encoder makes of each chunk's ids."""
        readings: dict[Ids, tuple[Reading, ...]] = {}
        learned = [
            {word: vectors[n] for word, vectors in additions.words.vectors.items()}
            for n in range(len(self._encoders))
        ]
        with self._changed(additions):
            for begin in range(0, len(wanted), self._rows):
                ids = wanted[begin : begin + self._rows]
                filled = [*ids, *[ids[-1]] * (self._rows - len(ids))]
                found = [
                    encoder.read(filled, clip_skip, words)
                    for encoder, words in zip(self._encoders, learned, strict=True)
                ]
                readings |= dict(zip(ids, zip(*found, strict=True), strict=False))
        return readings

    @contextlib.contextmanager
    def _changed(self, additions: Additions) -> Iterator[None]:
        """The text encoders with the changes of LoRAs, for as long as this lasts."""
        found = {name: additions.changes(name) for name in self.adaptables}
        loras = {
            name: RowLoras((RowGroup(None, changes),)) for name, changes in found.items() if changes
        }
        try:
            for name, each in loras.items():
                self.adaptables[name].use(each)
            yield
        finally:
            for adaptable in self.adaptables.values():
                adaptable.use(None)

    def _keep(self, key: _Key, encoded: Encoded) -> None:
        """As the newest of the cache, which lets go of its oldest."""
        if self._cache.pop(key, None) is None:
            self._cached_chunks += encoded.tokens.shape[0] // self._length
        self._cache[key] = encoded
        while self._cached_chunks > _CACHED_CHUNKS:
            _, oldest = self._cache.popitem(last=False)
            self._cached_chunks -= oldest.tokens.shape[0] // self._length


def _joined(chunks: Sequence[Chunk], readings: Mapping[Ids, Sequence[Reading]]) -> Encoded:
    """A text from its chunks: each encoder's weighed states side by side, chunk after chunk."""
    parts = []
    for chunk in chunks:
        states = [_weighed(each.hidden, chunk.weights) for each in readings[chunk.ids]]
        parts.append(torch.cat(states, dim=1) if len(states) > 1 else states[0])
    pooled = [each.pooled for each in readings[chunks[0].ids] if each.pooled is not None]
    return Encoded(torch.cat(parts) if len(parts) > 1 else parts[0], pooled[-1] if pooled else None)


def _weighed(hidden: Tensor, weights: Sequence[float]) -> Tensor:
    """A chunk's embeddings times their weights, their mean restored, as A1111 does."""
    if all(weight == 1 for weight in weights):
        return hidden
    factors = torch.ones(hidden.shape[0], 1)
    factors[1 : 1 + len(weights), 0] = torch.tensor(weights)
    plain = hidden.float()
    weighed = plain * factors.to(plain.device)
    mean = weighed.mean()
    restored = torch.where(mean == 0, weighed, weighed * (plain.mean() / mean))
    return restored.to(hidden.dtype)


@functools.lru_cache(maxsize=4)
def _of_files(vocabulary: bytes, merges: bytes) -> Tokenizer:
    """From what the two files hold. Kept, since nearly every model brings OpenAI's vocabulary, SDXL
    twice, and to build it takes a third of a second."""
    lines = merges.decode().split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return _clip_tokenizer(json.loads(vocabulary), [(left, right) for left, right in pairs])


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
