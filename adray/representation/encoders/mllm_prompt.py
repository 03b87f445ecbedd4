"""Prompts of vision-language encoders: fixed turns around picture and copy, copy cut to fit, rows padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from adray.errors import ConfigError
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.mllm_family import Family


class Prompt:
    """Token ids of a creative's prompt.

    Args:
        config: Instruction, length and padding.
        family: Turns and visual tokens.
        tokenizer: The model's tokenizer.

    Raises:
        ConfigError: If the fixed turns and the largest picture fill `max_tokens`.
    """

    def __init__(self, config: MllmConfig, family: Family, tokenizer: Tokenizer) -> None:
        turns = family.turns()
        self._config, self._tokenizer = config, tokenizer
        self._before, self._after = (self._fixed(text) for text in (turns.before, turns.after))
        self._open, self._close = ([self._id(token) for token in part] for part in (turns.before_picture, turns.after_picture))
        self._picture = self._id(turns.picture_token)
        self._pad = self._after[-1]
        largest = family.most_visual_tokens()
        self._room = config.max_tokens - len(self._before) - len(self._after)
        left = self._room - len(self._open) - len(self._close) - largest
        if left < 1:
            raise ConfigError(
                f"field 'max_tokens' is {config.max_tokens}: instruction and a picture of up to {largest} tokens leave no room for copy",
                f"set max_tokens to at least {config.max_tokens - left + 64} or lower max_pixels",
            )

    def _fixed(self, text: str) -> list[int]:
        """Ids of a turn's fixed text, in which special tokens are meant as such."""
        self._tokenizer.encode_special_tokens = False
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ConfigError(f"the tokenizer has no token {token!r}", "use the checkpoint's own tokenizer files")
        return found

    def tokens(self, copy: str, visual: int) -> list[int]:
        """One creative's prompt.

        Args:
            copy: Its text; what looks like a special token in it is plain text.
            visual: Tokens of its picture; 0 without one.

        Returns:
            At most `max_tokens` ids; only copy is cut, never a visual token.
        """
        if not copy.strip() and not visual:
            copy = self._config.empty
        picture = [*self._open, *[self._picture] * visual, *self._close] if visual else []
        room = self._room - len(picture)
        # Hardly a token is longer than 32 letters, so a huge copy need not be tokenised whole.
        self._tokenizer.encode_special_tokens = True
        text = self._tokenizer.encode(copy[: 32 * room], add_special_tokens=False).ids[:room] if copy.strip() else []
        return [*self._before, *picture, *text, *self._after]

    def padded(self, rows: Sequence[list[int]]) -> dict[str, Tensor]:
        """int64 `[n, longest]`: `input_ids`, `attention_mask` (1 where a token is), `picture_mask` (1 at visual tokens)."""
        longest = max((len(row) for row in rows), default=0)
        ids = torch.full((len(rows), longest), self._pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            place = slice(longest - len(row), longest) if self._config.padding == "left" else slice(0, len(row))
            ids[i, place], mask[i, place] = torch.tensor(row), 1
        return {"input_ids": ids, "attention_mask": mask, "picture_mask": (ids == self._picture).long()}
