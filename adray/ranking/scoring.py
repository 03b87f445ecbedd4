"""The exported halves, ready to answer: no training code, no tables, no framework beside PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adray.artifact import Artifact, load_artifact
from adray.config import validate
from adray.data.batch import Ragged
from adray.data.hashing import hash_strings
from adray.errors import ArtifactError, DataError
from adray.ranking import arrays
from adray.ranking.arrays import RaggedArray
from adray.ranking.config import RankerModelConfig
from adray.ranking.creative import CreativeRanker, LightOutput, Side
from adray.ranking.export import HEAVY_KIND, LIGHT_KIND
from adray.ranking.objectives.listwise import exposure_probability
from adray.ranking.ragged import Lists
from adray.ranking.request import RequestFields
from adray.ranking.simtier import ClickedCreatives, known_clicks
from adray.ranking.sku_table import load_fields, take_fields
from adray.ranking.tables import FieldValues, Rows, column
from adray.ranking.user_sku import UserSkuRanker


@dataclass(frozen=True)
class SkuRequest:
    """A SKU whose creatives are to be ordered; `creative_ids` None means all that are known."""

    sku_id: str
    creative_ids: Sequence[str] | None = None


@dataclass(frozen=True)
class RankedSku:
    """A SKU's creatives, best first.

    Attributes:
        sku_id: The SKU.
        creatives: `(creative id, score, propensity)`: score is the click probability; propensity is the modelled chance
            that the training log's policy would have shown it among these candidates.
        unknown: Requested creatives that this SKU does not have.
        known: Whether the SKU is in the store.
    """

    sku_id: str
    creatives: list[tuple[str, float, float]]
    unknown: list[str] = field(default_factory=list)
    known: bool = True


@dataclass(frozen=True)
class LightStore:
    """Memory-mapped creatives by SKU.

    Attributes:
        skus: int64 `[S]`, hashed ids, ascending.
        offsets: int64 `[S + 1]` into the creatives.
        sku_names: UTF-8 bytes of each SKU's id.
        creatives: int64 `[C]`, hashed ids, ascending within each SKU.
        names: UTF-8 bytes of each creative's id.
        vectors: float32 `[C, dim]`.
        history: float32 `[S]`, historical CTR.
        fields: SKU feature columns, `[S]` each.
        content: float16 `[C, content_dim]`, content vectors; None for a half that compares none.
        by_id: int64 `[C]`, rows in ascending order of the hashed creative id; None likewise.
    """

    skus: np.ndarray
    offsets: np.ndarray
    sku_names: RaggedArray
    creatives: np.ndarray
    names: RaggedArray
    vectors: np.ndarray
    history: np.ndarray
    fields: dict[str, np.ndarray | RaggedArray]
    content: np.ndarray | None = None
    by_id: np.ndarray | None = None

    @classmethod
    def load(cls, artifact: Artifact, *, content: bool = False) -> LightStore:
        """Map the store of a light artifact, with its `content` if asked for."""
        skus, offsets, creatives, vectors, history = (
            artifact.array(name) for name in ("skus", "sku_offsets", "creatives", "vectors", "history")
        )
        sku_names, names = (arrays.load_ragged(artifact.folder, name) for name in ("sku_names", "names"))
        compared = [artifact.array(name) for name in ("content", "by_id")] if content else []
        return cls(skus, offsets, sku_names, creatives, names, vectors, history, load_fields(artifact.folder), *compared)

    def candidates(self, row: int, wanted: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a SKU's creatives, and which of the wanted hashes are found; `wanted` None takes all."""
        start, end = int(self.offsets[row]), int(self.offsets[row + 1])
        if wanted is None:
            return np.arange(start, end), np.ones(0, bool)
        places = arrays.find(self.creatives[start:end], wanted)
        return start + places[places >= 0], places >= 0

    def lookup(self, creatives: np.ndarray) -> np.ndarray:
        """Rows of hashed creative ids of any SKU, int64; -1 where unknown."""
        assert self.by_id is not None, "the artifact compares no creatives"
        if self.by_id.size == 0:
            return np.full(creatives.shape, -1, dtype=np.int64)
        places = np.searchsorted(self.creatives, creatives, sorter=self.by_id)
        rows = self.by_id[np.minimum(places, self.by_id.size - 1)]
        return np.where(self.creatives[rows] == creatives, rows, -1)


class LightRanker:
    """The light half with its store; thread-safe, as nothing changes after loading.

    Attributes:
        artifact: What it was loaded from.
        config: The model's config.
        module: The network, in eval mode.
        store: The creatives.
    """

    def __init__(self, artifact: Artifact, config: RankerModelConfig, module: CreativeRanker, store: LightStore) -> None:
        assert config.light is not None
        self.artifact, self.config, self.module, self.store = artifact, config, module, store
        simtier = config.light.simtier.column if config.light.simtier else None
        self._user_fields = RequestFields(config.light.user, [name for name in (config.light.liked, simtier) if name])

    @classmethod
    def load(cls, folder: str | Path) -> LightRanker:
        """Load a `ranker.light` artifact.

        Raises:
            ArtifactError: If it is missing, damaged, of another kind, or its weights do not fit its config.
        """
        artifact = load_artifact(folder, LIGHT_KIND)
        config = validate(RankerModelConfig, artifact.config["model"], f"artifact {artifact.folder}")
        assert config.light is not None
        module = CreativeRanker(config.light, {}, artifact.config["content_dim"], delta=config.objective.delta)
        return cls(artifact, config, _filled(module, artifact), LightStore.load(artifact, content=config.light.simtier is not None))

    def sku_ids(self, limit: int | None = None) -> list[str]:
        """Ids of the SKUs in the store, at most `limit`."""
        return _names(self.store.sku_names, limit)

    def rank(self, user: Mapping[str, Any], skus: Sequence[SkuRequest], historical: Mapping[str, float] | None = None) -> list[RankedSku]:
        """Order the creatives of one or many SKUs for a user, in one forward pass.

        Args:
            user: The user's features by column name; missing ones are null, unknown ones ignored.
            skus: What to order.
            historical: Ad CTR by SKU id that replaces the stored one, in [0, 1].

        Returns:
            One entry per requested SKU, in order. Equal scores are ordered by creative id.

        Raises:
            DataError: If a user feature or a CTR is of the wrong type or range.
        """
        rows = arrays.find(self.store.skus, hash_strings([s.sku_id for s in skus]))
        picked = self._pick(skus, rows)
        values = self._user_fields.read([user], "user")
        known = np.flatnonzero(rows >= 0)
        lengths = np.array([picked[i][0].size for i in known], dtype=np.int64)
        scores = propensity = np.empty(0)
        if lengths.sum():
            flat = np.concatenate([picked[i][0] for i in known])
            lists = Lists.from_offsets(torch.from_numpy(np.append(0, np.cumsum(lengths))))
            probability = self._history(skus, rows, known, historical or {})
            with torch.inference_mode():
                side = self.module.user_side(values) + self.sku_side(rows[known])
                # All lists are of one user, so they are compared with what was clicked as one.
                whole = Ragged(torch.arange(flat.size), torch.tensor([0, flat.size]))
                output = self.score_rows(side, probability, flat, lists.segments, self.tiers(flat, whole, self.clicked(values)))
                scores = self._score(output.click).numpy()
                propensity = exposure_probability(output.exposure, lists).numpy()
        return self._answer(skus, rows, picked, scores, propensity)

    def sku_side(self, rows: np.ndarray) -> Side:
        """The SKU side of store rows `[S]` from the stored features."""
        return self.module.sku_side(take_fields(self.store.fields, rows, self.store.skus[rows]))

    def clicked(self, users: Rows) -> ClickedCreatives | None:
        """What n users clicked before, from their features; None for a model that does not ask."""
        simtier = self.module.config.simtier
        if simtier is None or self.store.content is None:
            return None
        return known_clicks(column(users.bags, simtier.column, "bag", users), simtier.max_length, self.store.lookup, self.store.content)

    def tiers(self, rows: np.ndarray, lists: Ragged, clicked: ClickedCreatives | None) -> Tensor | None:
        """SimTier's histograms of store rows `[m]` in n lists (of rows of `rows`) of as many users; None for a model without."""
        if clicked is None or self.store.content is None:
            return None
        return self.module.tiers(torch.from_numpy(self.store.content[rows]), lists, clicked)

    def score_rows(self, side: Side, probability: Tensor, rows: np.ndarray, segments: Tensor, tiers: Tensor | None = None) -> LightOutput:
        """Score store rows `[m]` of n lists, given both sides, the ad score `[n]`, and SimTier's histograms if there are any."""
        vectors = torch.from_numpy(self.store.vectors[rows])
        return self.module.score(side, probability, vectors, torch.arange(rows.size), segments, tiers)

    def _pick(self, skus: Sequence[SkuRequest], rows: np.ndarray) -> list[tuple[np.ndarray, list[str]]]:
        """Each SKU's candidate rows and the requested ids it does not have."""
        wanted = [None if s.creative_ids is None else list(dict.fromkeys(s.creative_ids)) for s in skus]
        hashes = hash_strings([name for names in wanted if names is not None for name in names])
        picked, start = [], 0
        for row, names in zip(rows, wanted, strict=True):
            own = None
            if names is not None:
                own = hashes[start : start + len(names)]
                start += len(names)
            if row < 0:
                picked.append((np.empty(0, np.int64), names or []))
                continue
            found, there = self.store.candidates(int(row), own)
            picked.append((found, [] if names is None else [n for n, t in zip(names, there, strict=True) if not t]))
        return picked

    def _history(self, skus: Sequence[SkuRequest], rows: np.ndarray, known: np.ndarray, given: Mapping[str, float]) -> Tensor:
        history = self.store.history[rows[known]]
        for place, i in enumerate(known):
            own = given.get(skus[i].sku_id)
            if own is None:
                continue
            if isinstance(own, bool) or not isinstance(own, (int, float)) or not 0.0 <= own <= 1.0:
                raise DataError(f"historical CTR of SKU {skus[i].sku_id!r} is {own!r}", "give a number in [0, 1]")
            history[place] = own
        return torch.from_numpy(history)

    def _score(self, click: Tensor) -> Tensor:
        # VAM regresses 100 x CTR; every other objective's logit is a click logit. Double precision keeps an order
        # among logits whose sigmoid is 1 in single precision.
        return click.double() / 100.0 if self.config.objective.name == "vam" else click.double().sigmoid()

    def _answer(
        self,
        skus: Sequence[SkuRequest],
        rows: np.ndarray,
        picked: list[tuple[np.ndarray, list[str]]],
        scores: np.ndarray,
        propensity: np.ndarray,
    ) -> list[RankedSku]:
        answer, start = [], 0
        for sku, row, (found, unknown) in zip(skus, rows, picked, strict=True):
            end = start + found.size
            names = [self.store.names.text(int(r)) for r in found]
            creatives = list(zip(names, scores[start:end].tolist(), propensity[start:end].tolist(), strict=True))
            creatives.sort(key=lambda entry: (-entry[1], entry[0]))
            answer.append(RankedSku(sku.sku_id, creatives, unknown, bool(row >= 0)))
            start = end
        return answer


class HeavyRanker:
    """The heavy half with its SKU features; thread-safe, as nothing changes after loading.

    Attributes:
        artifact: What it was loaded from.
        config: The model's config.
        module: The network, in eval mode.
    """

    def __init__(self, artifact: Artifact, config: RankerModelConfig, module: UserSkuRanker) -> None:
        assert config.heavy is not None
        self.artifact, self.config, self.module = artifact, config, module
        self._skus = artifact.array("skus")
        self._names = arrays.load_ragged(artifact.folder, "sku_names")
        self._fields = load_fields(artifact.folder)
        history = [config.heavy.history.name] if config.heavy.history else []
        self._user_fields = RequestFields(config.heavy.user, history)
        self._cross_fields = RequestFields(config.heavy.cross)

    @classmethod
    def load(cls, folder: str | Path) -> HeavyRanker:
        """Load a `ranker.heavy` artifact.

        Raises:
            ArtifactError: If it is missing, damaged, of another kind, or its weights do not fit its config.
        """
        artifact = load_artifact(folder, HEAVY_KIND)
        config = validate(RankerModelConfig, artifact.config["model"], f"artifact {artifact.folder}")
        assert config.heavy is not None
        return cls(artifact, config, _filled(UserSkuRanker(config.heavy, {}), artifact))

    def sku_ids(self, limit: int | None = None) -> list[str]:
        """Ids of the SKUs that can be scored, at most `limit`."""
        return _names(self._names, limit)

    def score(
        self, user: Mapping[str, Any], sku_ids: Sequence[str], cross: Mapping[str, Mapping[str, Any]] | None = None
    ) -> list[float | None]:
        """Click probability of each SKU's ad for a user, in one forward pass.

        Args:
            user: The user's features by column name; missing ones are null, unknown ones ignored.
            sku_ids: What to score.
            cross: User x SKU features by SKU id.

        Returns:
            One probability per SKU, in order; None for a SKU that the training log never held.

        Raises:
            DataError: If a feature is of the wrong type.
        """
        rows = arrays.find(self._skus, hash_strings(list(sku_ids)))
        known = np.flatnonzero(rows >= 0)
        answer: list[float | None] = [None] * len(sku_ids)
        values = self._user_fields.read([user], "user")
        if known.size:
            crossed = self._cross_fields.read([(cross or {}).get(sku_ids[int(i)], {}) for i in known], "cross")
            stored = take_fields(self._fields, rows[known], self._skus[rows[known]])
            with torch.inference_mode():
                scores = self.module(_merged(values, stored, crossed)).logit.sigmoid().tolist()
            for i, score in zip(known, scores, strict=True):
                answer[i] = score
        return answer


def _merged(user: FieldValues, sku: FieldValues, cross: FieldValues) -> FieldValues:
    """One user's row beside n SKU rows."""
    n = len(sku)
    ids = {name: value.expand(n) for name, value in user.ids.items()}
    numbers = {name: value.expand(n) for name, value in user.numbers.items()}
    bags = {name: type(bag)(bag.values.repeat(n), torch.arange(n + 1) * bag.values.numel()) for name, bag in user.bags.items()}
    return FieldValues(n, {**ids, **sku.ids, **cross.ids}, {**numbers, **sku.numbers, **cross.numbers}, {**bags, **sku.bags, **cross.bags})


def _filled(module: nn.Module, artifact: Artifact) -> Any:
    try:
        module.load_state_dict(artifact.tensors())
    except RuntimeError as error:
        raise ArtifactError(f"artifact {artifact.folder}: its weights do not fit its config: {error}", "export it again") from None
    return module.eval()


def _names(names: RaggedArray, limit: int | None) -> list[str]:
    return [names.text(row) for row in range(len(names) if limit is None else min(limit, len(names)))]
