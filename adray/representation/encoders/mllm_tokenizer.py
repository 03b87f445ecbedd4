"""Tokenizers for vision-language models that are built from sizes: the real Qwen vocabulary, or plain bytes."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from adray.errors import ResourceError

QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen's special tokens, whose ids follow the vocabulary in this order."""

SMOLVLM_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>")
"""The special tokens of SmolVLM that a prompt uses."""

# How Qwen cuts text into pieces before byte pairs are merged: contractions, words, single digits, punctuation, spaces.
_QWEN_PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build_tokenizer(name: str, tokens: int | None, special: Sequence[str]) -> Tokenizer:
    """A byte-level tokenizer; any text can be encoded.

    Args:
        name: `qwen` or `bytes`.
        tokens: `qwen`: keep the first so many tokens of the vocabulary, itself a byte-pair vocabulary; None keeps all 151,643.
        special: Special tokens; their ids follow the vocabulary's.

    Raises:
        ResourceError: If the package that carries the vocabulary is not installed.
    """
    tokenizer = Tokenizer.from_str(_qwen(tokens) if name == "qwen" else _bytes())
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


@lru_cache(maxsize=4)
def _qwen(tokens: int | None) -> str:
    spec = importlib.util.find_spec("dashscope")
    if spec is None or spec.origin is None:
        raise ResourceError(
            "package dashscope, which carries the Qwen vocabulary, is not installed", "run `pip install --no-deps dashscope`"
        )
    lines = (Path(spec.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()[:tokens]
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    return _byte_pairs(ranks, Regex(_QWEN_PIECES))


@lru_cache(maxsize=1)
def _bytes() -> str:
    return _byte_pairs({bytes([value]): value for value in range(256)}, Regex(_QWEN_PIECES))


def _byte_pairs(ranks: dict[bytes, int], pieces: Regex) -> str:
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[value] for value in token)

    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    merges = [merge for token, rank in sorted(ranks.items(), key=lambda item: item[1]) if (merge := _last_merge(token, rank, ranks))]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(spell(left), spell(right)) for left, right in merges]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()


def _last_merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """The two parts that a token is merged from: what is left of its bytes when all merges of lower rank are done."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        found = [(ranks.get(left + right, rank), i) for i, (left, right) in enumerate(pairwise(parts))]
        lowest, i = min(found)
        if lowest >= rank:
            return None
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(value) if value in printable else chr(next(others)) for value in range(256)]
