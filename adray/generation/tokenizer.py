"""The small generator's tokenizer: the words of its training prompts, one id each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[END]"


def word_tokenizer(prompts: Iterable[str], vocabulary: int, max_tokens: int) -> Any:
    """A word-level tokenizer.

    Args:
        prompts: Texts to learn words from. Rarer words than the `vocabulary - 3` most frequent ones are unknown; ties are broken by
            the alphabet, so that equal prompts give equal ids.
        vocabulary: Ids at most, with those of padding, end and the unknown word.
        max_tokens: Ids of a prompt; longer ones are cut off.

    Returns:
        A `PreTrainedTokenizerFast`. Words are lower-cased; punctuation counts as words.
    """
    from transformers import PreTrainedTokenizerFast

    normalise, split = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in prompts for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
    words = sorted(counts, key=lambda word: (-counts[word], word))[: max(0, vocabulary - 3)]
    ids = {token: i for i, token in enumerate([PAD, UNKNOWN, END, *words])}
    inner = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    inner.normalizer, inner.pre_tokenizer = normalise, split
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, model_max_length=max_tokens, padding_side="right"
    )
