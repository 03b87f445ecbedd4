"""A vision-language model that writes: greedy or sampled, its tokens held to a grammar, their probabilities kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llguidance
import numpy as np
import torch
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from adray.errors import ConfigError
from adray.files import sha256
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.mllm_families import family_of
from adray.representation.encoders.mllm_family import Family
from adray.representation.encoders.mllm_loading import check_sizes, sizes_of
from adray.representation.encoders.mllm_prompt import Prompt
from adray.representation.encoders.mllm_tokenizer import build_tokenizer


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: Without special tokens.
        ends: Where each of its tokens ends in `text`, in characters.
        log_probs: Natural log-probability of each token among all tokens, before any grammar.
        finished: Whether it ended by itself.
    """

    text: str
    ends: tuple[int, ...]
    log_probs: tuple[float, ...]
    finished: bool


class Writer:
    """A transformers vision-language model with its output layer.

    Args:
        config: The model.
        device: Where it computes.

    Raises:
        ConfigError: If the checkpoint is missing or of another architecture than the config says.
    """

    def __init__(self, config: MllmConfig, device: str = "cpu") -> None:
        self._config = config = config.model_copy(update={"padding": "left"})
        self._device = device
        self.model, self._family, self._tokenizer = _load(config)
        self.model.to(device).eval()
        self._prompt = Prompt(config, self._family, self._tokenizer)
        turn = re.match(r"<[^>]+>", self._family.turns().after)
        assert turn is not None
        self._end = self._tokenizer.token_to_id(turn.group())
        self._vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        self._grammar_tokens = llguidance.LLTokenizer(self._tokenizer.to_str(), n_vocab=self._vocabulary, eos_token=self._end)

    def identity(self) -> Mapping[str, Any]:
        """Model, weights and picture sizes, for provenance."""
        values = self._config.model_dump(mode="json", exclude={"path", "lora", "freeze_vision", "attention", "padding"})
        folder = Path(self._config.path) if self._config.path else None
        return values | {"weights": {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))} if folder else None}

    def write(
        self, picture: np.ndarray | None, text: str, schema: Mapping[str, Any] | None, most: int, temperature: float | None
    ) -> Answer:
        """Answer one prompt.

        Args:
            picture: uint8 `[height, width, 3]`, RGB, or None.
            text: The user's turn beside it.
            schema: JSON schema that the answer is held to by a grammar; None lets every token through.
            most: Most tokens.
            temperature: Sample at it; None takes the likeliest token each time.
        """
        inputs = {name: value.to(self._device) for name, value in self._inputs(picture, text).items()}
        length = inputs["input_ids"].shape[1]
        limits = LogitsProcessorList([GrammarProcessor(self._grammar_tokens, schema, length)] if schema is not None else [])
        sampling: dict[str, Any] = (
            {"do_sample": False} if temperature is None else {"do_sample": True, "temperature": temperature, "top_k": 0}
        )
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                **sampling,
                max_new_tokens=most,
                eos_token_id=self._end,
                pad_token_id=self._end,
                logits_processor=limits,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = out.sequences[0, length:].tolist()
        log_probs = [float(torch.log_softmax(logits[0].float(), 0)[token]) for logits, token in zip(out.logits, tokens, strict=True)]
        finished = bool(tokens) and tokens[-1] == self._end
        if finished:
            tokens, log_probs = tokens[:-1], log_probs[:-1]
        ends = [len(self._tokenizer.decode(tokens[: i + 1])) for i in range(len(tokens))]
        return Answer(self._tokenizer.decode(tokens), tuple(ends), tuple(log_probs), finished)

    def _inputs(self, picture: np.ndarray | None, text: str) -> dict[str, Tensor]:
        tensors, counts = self._family.pictures([picture]) if picture is not None else ({}, [0])
        # The last token is the one that an encoder pools; a writer goes on where the assistant's turn begins.
        padded = self._prompt.padded([self._prompt.tokens(text, counts[0])[:-1]])
        inputs = {"input_ids": padded["input_ids"], "attention_mask": padded["attention_mask"], **tensors}
        if "image_grid_thw" in tensors:
            inputs["mm_token_type_ids"] = padded["picture_mask"]
        return inputs


class GrammarProcessor(LogitsProcessor):
    """Lets only tokens through that can go on towards a text of the schema's form (llguidance).

    Args:
        tokenizer: The model's tokens.
        schema: A JSON schema.
        prompt: Tokens of the prompt, which the grammar does not see.

    Raises:
        ConfigError: If the schema cannot be made a grammar.
    """

    def __init__(self, tokenizer: llguidance.LLTokenizer, schema: Mapping[str, Any], prompt: int) -> None:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(dict(schema), overrides={"whitespace_flexible": False})
        self._matcher = llguidance.LLMatcher(tokenizer, grammar)
        if self._matcher.is_error():
            raise ConfigError(f"the answer's schema cannot be a grammar: {self._matcher.get_error()}", "leave out a field")
        self._seen = prompt

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Set the scores of tokens that the grammar refuses to minus infinity; one row at a time."""
        for token in input_ids[0, self._seen :].tolist():
            self._matcher.consume_token(token)
        self._seen = input_ids.shape[1]
        words = allocate_token_bitmask(1, scores.shape[1])
        fill_next_token_bitmask(self._matcher, words)
        allowed = np.unpackbits(words.numpy().view(np.uint8), bitorder="little")[: scores.shape[1]].astype(bool)
        refused = torch.from_numpy(~allowed).to(scores.device)
        return torch.FloatTensor.masked_fill(scores, refused[None], float("-inf"))  # type: ignore[return-value]


def _load(config: MllmConfig) -> tuple[Any, Family, Tokenizer]:
    """Like the encoder's parts, but the model has its output layer."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    if config.path is None:
        assert config.architecture is not None
        architecture = config.architecture
        kind = family_of(architecture.family, "field 'architecture'")
        tokenizer = build_tokenizer(architecture.tokenizer, architecture.tokens, kind.special)
        sizes = sizes_of(architecture, tokenizer)
        model = AutoModelForImageTextToText.from_config(sizes, attn_implementation=config.attention)
        return model, kind(config, sizes), tokenizer
    if not (Path(config.path) / "config.json").is_file():
        raise ConfigError(f"field 'mllm.model.path': no checkpoint at {config.path}", "give the folder of a transformers checkpoint")
    sizes = AutoConfig.from_pretrained(config.path, local_files_only=True)
    if config.architecture is not None:
        check_sizes(sizes, config.architecture, config.path)
    model = AutoModelForImageTextToText.from_pretrained(
        config.path, local_files_only=True, use_safetensors=True, dtype="auto", attn_implementation=config.attention
    )
    tokenizer = AutoTokenizer.from_pretrained(config.path, local_files_only=True).backend_tokenizer
    return model, family_of(sizes.model_type, config.path)(config, sizes), tokenizer
