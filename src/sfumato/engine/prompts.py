"""From a prompt to the embeddings that steer the network, with the model's own tokenizer."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.prompts import Break, Chunk, parse_emphasis, split_into_chunks
from sfumato.engine.weights import read_json

if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPTextModel

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

Ids = tuple[int, ...]


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
    """Tokenizer and text encoder of one model, with a cache of what was encoded last.

    Chunks are encoded in batches of one fixed size, filled up where too few: kernels add in
    another order for another number of rows, so an embedding's last bits would else depend on
    what happened to be in the cache.

    Args:
        network: a ``CLIPTextModel``, on whose last hidden state the denoiser was trained.
        length: tokens of a chunk, start and end included.
    """

    def __init__(self, tokenizer: ClipTokenizer, network: CLIPTextModel, length: int) -> None:
        self._tokenizer = tokenizer
        self._network = network
        self._length = length
        self._rows = _CUDA_ROWS if network.device.type == "cuda" else 1
        self._cache: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._cached_chunks = 0

    def encode(self, texts: Sequence[str], clip_skip: int = 1) -> list[Tensor]:
        """Embeddings of each text, (chunks × length, width), on the model's device.

        Args:
            clip_skip: which of the network's layers to take, counted from the last, which is 1.

        Raises:
            InvalidRequest: the texts are too long, or the network has fewer layers.
        """
        layers = self._network.config.num_hidden_layers
        if clip_skip > layers:
            raise InvalidRequest(
                f"clip_skip is {clip_skip}, but this model's text encoder has {layers} layers.",
                field="clip_skip",
                accepted=f"a whole number from 1 to {layers}",
            )
        known = {text: self._cache.get((text, clip_skip)) for text in texts}
        chunks = self._chunks([text for text, tensor in known.items() if tensor is None])
        distinct = dict.fromkeys(chunk.ids for found in chunks.values() for chunk in found)
        hidden = self._hidden(list(distinct), clip_skip)
        encoded = []
        for text, tensor in known.items():
            if tensor is None:
                parts = [_weighed(hidden[chunk.ids], chunk.weights) for chunk in chunks[text]]
                tensor = torch.cat(parts) if len(parts) > 1 else parts[0]  # noqa: PLW2901
            self._keep((text, clip_skip), tensor)
            encoded.append(tensor)
        return encoded

    def _chunks(self, texts: Sequence[str]) -> dict[str, list[Chunk]]:
        chunks, count, room = dict[str, list[Chunk]](), 0, self._length - 2
        for text in texts:
            runs = [
                run if isinstance(run, Break) else (self._tokenizer.encode(run.text), run.weight)
                for run in parse_emphasis(text)
            ]
            found = split_into_chunks(runs, room=room, comma=self._tokenizer.comma)
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

    def _hidden(self, wanted: Sequence[Ids], clip_skip: int) -> dict[Ids, Tensor]:
        """The network's hidden state, (length, width), for each chunk's ids."""
        hidden: dict[Ids, Tensor] = {}
        for begin in range(0, len(wanted), self._rows):
            ids = wanted[begin : begin + self._rows]
            framed = [self._tokenizer.frame(row, self._length) for row in ids]
            framed += [framed[-1]] * (self._rows - len(framed))
            batch = torch.tensor(framed, device=self._network.device)
            # Clones: a view would keep the whole batch in memory.
            rows = [row.clone() for row in self._layer(batch, clip_skip)]
            hidden |= dict(zip(ids, rows, strict=False))
        return hidden

    def _layer(self, batch: Tensor, clip_skip: int) -> Tensor:
        if clip_skip == 1:
            return self._network(input_ids=batch).last_hidden_state  # type: ignore[no-any-return]
        states = self._network(input_ids=batch, output_hidden_states=True).hidden_states
        # transformers 5 dropped a level.
        network = getattr(self._network, "text_model", self._network)
        return network.final_layer_norm(states[-clip_skip])  # type: ignore[no-any-return]

    def _keep(self, key: tuple[str, int], tensor: Tensor) -> None:
        """As the newest of the cache, which lets go of its oldest."""
        if self._cache.pop(key, None) is None:
            self._cached_chunks += tensor.shape[0] // self._length
        self._cache[key] = tensor
        while self._cached_chunks > _CACHED_CHUNKS:
            _, oldest = self._cache.popitem(last=False)
            self._cached_chunks -= oldest.shape[0] // self._length


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
