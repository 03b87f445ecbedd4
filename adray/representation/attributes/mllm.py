"""The extractor that asks a vision-language model, and believes it only as far as its answer's form and its texts allow."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from adray.representation.attributes.extractor import Extractor, Item
from adray.representation.attributes.mllm_answer import answer_model, answer_values, check_answer, field_confidences
from adray.representation.attributes.mllm_config import MllmExtractorConfig
from adray.representation.attributes.mllm_generate import Answer, Writer
from adray.representation.attributes.values import Attributes, texts_of

_RAW_CHARACTERS = 2000
"""Of a refused answer that are kept."""


class MllmExtractor(Extractor):
    """Reads fields by a vision-language model.

    An answer that is not of the schema's form is asked for again, sampled, up to `retries` times; then the fields are unknown
    and the last answer is kept as it is.

    Args:
        config: The model and how it is asked.
        fields: Which fields it reads.
        device: Where it computes.
        seed: Seed of random weights and of sampled answers.

    Raises:
        ConfigError: If the model cannot be loaded.
    """

    stage = "mllm"

    def __init__(self, config: MllmExtractorConfig, fields: Collection[str], device: str = "cpu", seed: int = 0) -> None:
        self._config, self._fields, self._seed = config, sorted(fields), seed
        self._model = answer_model(fields)
        self._schema = self._model.model_json_schema()
        self._instruction = f"{config.instruction}\nThe answer's JSON schema: {json.dumps(self._schema, separators=(',', ':'))}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._writer = Writer(config.model.model_copy(update={"instruction": self._instruction}), device)

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """The fields of each creative, one at a time."""
        return [self._one(item, attributes) for item, attributes in zip(items, known, strict=True)]

    def _one(self, item: Item, known: Attributes) -> Mapping[str, Any]:
        texts = texts_of(item.title, item.copy, known.text_boxes)
        read = "\n".join(box.text for box in known.text_boxes)
        prompt = f"Title: {item.title}\nCopy: {item.copy}\nText in the picture: {read}"
        last = ""
        for attempt in range(self._config.retries + 1):
            answer = self._ask(item, prompt, attempt)
            values = check_answer(self._model, answer.text) if answer.finished else None
            if values is not None:
                confidences = field_confidences(answer.text, answer.ends, answer.log_probs)
                return answer_values(values, confidences, texts, self._config.least_confidence)
            last = answer.text
        # Also an empty answer was refused: null would say that none was.
        return {"raw": last[:_RAW_CHARACTERS] or "(empty)"}

    def _ask(self, item: Item, prompt: str, attempt: int) -> Answer:
        schema = self._schema if self._config.constrained else None
        temperature = None if attempt == 0 else self._config.temperature
        with torch.random.fork_rng(devices=[]):
            # Keyed by creative and attempt, so that neither order nor number of workers changes an answer.
            torch.manual_seed(zlib.crc32(f"{self._seed} {item.creative_id} {attempt}".encode()))
            return self._writer.write(item.picture, prompt, schema, self._config.most_tokens, temperature)

    def identity(self) -> Mapping[str, Any]:
        """Model, weights, prompt and decoding."""
        decoding = self._config.model_dump(mode="json", exclude={"model", "instruction"})
        return {
            "model": self._writer.identity(),
            "prompt": self.prompt_hash(),
            "decoding": decoding,
            "fields": self._fields,
            "seed": self._seed,
        }

    def prompt_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of instruction and schema."""
        return hashlib.sha256(self._instruction.encode()).hexdigest()[:16]
