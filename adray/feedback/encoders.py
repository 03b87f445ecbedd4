"""Encoders of pictures and titles: a ResNet, a Vision Transformer and a RoBERTa of transformers, loaded or built small."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from adray.data.hashing import hash_strings
from adray.errors import ConfigError
from adray.feedback.config import SingleConfig, TextConfig, TrunkConfig

PADDING, START = 1, 0
"""RoBERTa's ids of padding and of the beginning."""
_RESERVED = 4
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+", re.UNICODE)


class ResNet(nn.Module):
    """Pictures to a grid of features.

    Args:
        config: Its sizes, or where it is.
        sizes: A transformers config, from an artifact; it wins over `config`.

    Attributes:
        width: Channels of the grid.
        stride: Pixels per cell.
    """

    def __init__(self, config: TrunkConfig, sizes: dict[str, Any] | None = None) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        if sizes is not None:
            self.net = ResNetModel(ResNetConfig.from_dict(sizes))
        elif config.path is not None:
            self.net = _pretrained(ResNetModel, config.path, "trunk.path")
        else:
            own = ResNetConfig(embedding_size=config.stem, hidden_sizes=config.widths, depths=config.depths, layer_type=config.layer)
            self.net = ResNetModel(own)
        widths = list(self.net.config.hidden_sizes or ())
        self.width = int(widths[-1])
        self.stride = 4 * 2 ** (len(widths) - 1)
        # What it pools for a classifier is not used here.
        self.net.pooler = nn.Identity()  # type: ignore[assignment]
        self._frozen = config.norm == "frozen"
        if config.norm == "group":
            _to_group_norm(self.net)
        elif self._frozen:
            for part in self._norms():
                part.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [part for part in self.net.modules() if isinstance(part, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> ResNet:
        """Training mode, but for statistics that are frozen."""
        super().train(mode)
        if self._frozen:
            for part in self._norms():
                part.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """float `[n, 3, side, side]` to `[n, width, side / stride, side / stride]`."""
        return self.net(pixel_values=pictures).last_hidden_state


def _to_group_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(8, child.num_features))
        else:
            _to_group_norm(child)


class VisionTransformer(nn.Module):
    """Pictures to their class token.

    Args:
        config: Its sizes, or where it is.
        sizes: A transformers config, from an artifact; it wins over `config`.

    Attributes:
        width: Of the token.
    """

    def __init__(self, config: SingleConfig, sizes: dict[str, Any] | None = None) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTModel

        if sizes is not None:
            self.net = ViTModel(ViTConfig.from_dict(sizes), add_pooling_layer=False)
        elif config.path is not None:
            self.net = _pretrained(ViTModel, config.path, "path", add_pooling_layer=False)
        else:
            own = ViTConfig(
                image_size=config.image_size,
                patch_size=config.patch,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
            )
            self.net = ViTModel(own, add_pooling_layer=False)
        self.width = int(self.net.config.hidden_size)

    def forward(self, pictures: Tensor) -> Tensor:
        """float `[n, 3, side, side]` to `[n, width]`."""
        return self.net(pixel_values=pictures).last_hidden_state[:, 0]


class TitleEncoder(nn.Module):
    """Titles to one vector per token.

    Args:
        config: Its sizes, or where it is.
        assets: The tokenizer as JSON and RoBERTa's config, from an artifact; None loads or builds them.

    Attributes:
        width: Of the vectors.
        assets: What rebuilds it beside its weights.
    """

    def __init__(self, config: TextConfig, assets: dict[str, Any] | None = None) -> None:
        super().__init__()
        from transformers import RobertaConfig, RobertaModel

        if assets is not None:
            self.net = RobertaModel(RobertaConfig.from_dict(assets["sizes"]), add_pooling_layer=False)
        elif config.path is not None:
            self.net = _pretrained(RobertaModel, config.path, "text.path", add_pooling_layer=False)
            assets = {"sizes": plain(self.net), "tokenizer": _tokenizer_json(config.path)}
        else:
            own = RobertaConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                # RoBERTa counts positions from its padding id + 1.
                max_position_embeddings=config.max_tokens + PADDING + 1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
            self.net = RobertaModel(own, add_pooling_layer=False)
            assets = {"sizes": plain(self.net), "tokenizer": None}
        self.assets = assets
        self.width = int(self.net.config.hidden_size)
        self.tokenize = Titles(config.max_tokens, int(self.net.config.vocab_size), assets["tokenizer"])

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """int64 `[n, length]` each, `mask` 1 where a token is, to float `[n, length, width]`."""
        # As what is added to the logits: transformers would look at the mask's values, which wait for a GPU and are not there
        # when only shapes are followed.
        absent = (mask == 0)[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        bias = torch.zeros(absent.shape, dtype=self.net.dtype, device=mask.device).masked_fill(absent, torch.finfo(self.net.dtype).min)
        return self.net(input_ids=tokens, attention_mask=bias).last_hidden_state


class Titles:
    """Turns titles into ids: by a checkpoint's tokenizer, or by hashing words to rows of the embedding.

    Args:
        max_tokens: Longest title.
        vocabulary: Rows of the embedding.
        tokenizer: A `tokenizer.json`'s text; None hashes words. Chinese and Japanese characters are words of their own.
    """

    def __init__(self, max_tokens: int, vocabulary: int, tokenizer: str | None) -> None:
        self._max, self._rows = max_tokens, vocabulary - _RESERVED
        self._json = tokenizer
        self._tokenizer = None if tokenizer is None else Tokenizer.from_str(tokenizer)
        if self._tokenizer is not None:
            self._tokenizer.enable_truncation(max_tokens)

    def __call__(self, titles: Sequence[str]) -> tuple[Tensor, Tensor]:
        """int64 `[n, length]` ids and 1 where one is; a missing title is its beginning alone."""
        if self._tokenizer is not None:
            lists = [encoding.ids for encoding in self._tokenizer.encode_batch(list(titles))]
        else:
            words = [_WORDS.findall(title.lower())[: self._max - 1] for title in titles]
            hashes = iter(hash_strings([word for each in words for word in each]).tolist()) if any(words) else iter(())
            lists = [[START] + [_RESERVED + next(hashes) % self._rows for _ in each] for each in words]
        length = max(1, max(map(len, lists), default=1))
        tokens = torch.full((len(lists), length), PADDING, dtype=torch.int64)
        for row, ids in enumerate(lists):
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        mask = torch.arange(length)[None, :] < torch.tensor([max(1, len(ids)) for ids in lists])[:, None]
        return tokens, mask.long()


def plain(net: Any) -> dict[str, Any]:
    """A transformers model's config as JSON values."""
    values: dict[str, Any] = json.loads(net.config.to_json_string(use_diff=False))
    return values


def _tokenizer_json(path: str) -> str:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"text.path {path} has no fast tokenizer", "save one with `tokenizer.json` beside the weights")
    return str(backend.to_str())


def _pretrained(cls: Any, path: str, field: str, **options: Any) -> Any:
    try:
        return cls.from_pretrained(path, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field} {path} cannot be loaded: {' '.join(str(error).split())[:200]}", "give a checkpoint's folder") from None
