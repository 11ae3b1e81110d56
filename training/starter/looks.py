"""What words begin with: the vector of an object's word is a short code of how the object looks.

From random vectors a text encoder has to learn each object by itself, from some hundred pictures among
a hundred thousand. From these it learns once, for all objects, how a code becomes a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from training.starter.art import Art
from training.starter.codec import Codec, to_images
from training.starter.render import draw
from training.starter.world import NONE, PLAIN, WORLD, Scene

#: Deviation of a code's numbers; CLIP's other vectors begin with 0.02.
_STRENGTH = 0.06
#: As in :mod:`.codec`: between whitening and leaving a few components all the weight.
_POWER = 0.5


def codes(codec: Codec, art: Art, size: int, width: int) -> Tensor:
    """(objects, width): principal components of the objects' latents on a plain ground."""
    scenes = [Scene(PLAIN, NONE, thing, 0) for thing in WORLD.things]
    latents = codec.encode(to_images(np.stack([draw(scene, art, size) for scene in scenes])))
    flat = latents.flatten(1)
    left, strengths, _ = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    count = min(width, len(scenes) - 1)
    found = torch.zeros(len(scenes), width)
    found[:, :count] = left[:, :count] * strengths[:count].pow(_POWER)
    return found * (_STRENGTH / found[:, :count].std())


def word_vectors(tokenizer: CLIPTokenizer, looks: Tensor) -> Tensor:
    """(vocabulary, width): what to add to the tokens' vectors. A token of several objects ("tree") gets their mean."""
    total = torch.zeros(len(tokenizer), looks.shape[1])
    uses = torch.zeros(len(tokenizer), 1)
    for thing, code in zip(WORLD.things.values(), looks, strict=True):
        phrases = tokenizer(list(thing.words), add_special_tokens=False)["input_ids"]
        for token in {token for phrase in phrases for token in phrase}:
            total[token] += code
            uses[token] += 1
    return total / uses.clamp(min=1)
