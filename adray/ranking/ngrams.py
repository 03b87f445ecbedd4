"""Word 1- and 2-grams of advertising copy, hashed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.hashing import hash_strings
from adray.ranking.arrays import flat_places, offsets_of

# Scripts written without spaces: each character is a word, so that bigrams are what a word would be.
_UNSPACED = r"(\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai})"
# Marks that carry meaning in a headline stay as words of their own.
_MARKS = r"([?!%$€£¥#])"
_NOT_WORD = r"[^\p{L}\p{M}\p{N}?!%$€£¥#]+"


def hash_ngrams(texts: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Hash the words and word pairs of each text.

    Args:
        texts: Strings, null allowed.

    Returns:
        `(values, offsets)`: int64 hashes and int64 `[n + 1]` offsets; a text of w words gives its w words, then its w - 1
        pairs. A null or empty text gives none.
    """
    words, offsets = _words(texts)
    ones = hash_strings(words).astype(np.uint64, copy=False)
    lengths = np.diff(offsets)
    # The last word of a text begins no pair.
    begins = np.ones(ones.size, dtype=bool)
    begins[offsets[1:][lengths > 0] - 1] = False
    first = np.flatnonzero(begins)
    pairs = _mix(ones[first], ones[first + 1])
    pair_lengths = np.maximum(lengths - 1, 0)
    out_offsets = offsets_of(lengths + pair_lengths)
    values = np.empty(int(out_offsets[-1]), dtype=np.uint64)
    values[flat_places(out_offsets[:-1], lengths)] = ones
    values[flat_places(out_offsets[:-1] + lengths, pair_lengths)] = pairs
    return values.view(np.int64), out_offsets


def _words(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.string())
    text = pc.utf8_lower(pc.fill_null(texts.cast(pa.string()), ""))
    text = pc.replace_substring_regex(text, "['’]", "")
    for pattern in (_UNSPACED, _MARKS):
        text = pc.replace_substring_regex(text, pattern, r" \1 ")
    text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, _NOT_WORD, " "))
    split = pc.utf8_split_whitespace(text)
    # Splitting an empty text gives one empty word, which is none.
    lengths = np.where(pc.equal(text, "").to_numpy(zero_copy_only=False), 0, pc.list_value_length(split).to_numpy())
    words = split.flatten()
    offsets = offsets_of(lengths)
    return words.filter(pc.not_equal(words, "")), offsets


def _mix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """An order-sensitive hash of two hashes; uint64 arithmetic wraps."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + (right ^ (right >> np.uint64(29))) * np.uint64(0xC2B2AE3D27D4EB4F)
    return mixed ^ (mixed >> np.uint64(32))
