from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.ranking.batch import RankingCollate


def test_each_creative_stands_once_and_candidates_point_at_it(market):
    batch = market.batch()
    ids = batch.creatives.ids
    assert ids.unique().numel() == ids.numel() < batch.creative_index.numel()
    assert torch.equal(ids[batch.creative_index], batch.impressions.candidates.values)


def test_features_and_counts_are_the_creatives_own(market):
    batch = market.batch()
    catalogue, rows = market.catalogue, market.catalogue.lookup(batch.creatives.ids.numpy())
    assert batch.creatives.elements.values.tolist() == catalogue.elements.take(rows).values.tolist()
    assert batch.creatives.ngrams.offsets.tolist() == catalogue.ngrams.take(rows).offsets.tolist()
    log = market.table.to_pylist()
    shown = [(r["candidates"][r["exposed"]]["creative_id"], r["clicked"]) for r in log]
    for i, one in enumerate(batch.creatives.ids.tolist()):
        own = [clicked for name, clicked in shown if hash_strings([name])[0] == one]
        assert (batch.creatives.impressions[i].item(), batch.creatives.clicks[i].item()) == (len(own), sum(own))


def test_history_is_of_earlier_blocks_in_training_and_of_the_whole_log_otherwise(market):
    log = market.table.to_pylist()
    overall = sum(r["clicked"] for r in log) / len(log)
    # Row i was logged at i ms, in one of sixteen blocks.
    block = [sum(i >= k * len(log) // 16 for k in range(1, 16)) for i in range(len(log))]
    for training in (True, False):
        history = market.batch(training=training).ad_history
        for i in range(0, len(log), 17):
            seen = [r for j, r in enumerate(log) if r["sku_id"] == log[i]["sku_id"] and not (training and block[j] >= block[i])]
            expected = (sum(r["clicked"] for r in seen) + 100 * overall) / (len(seen) + 100)
            assert history[i].item() == pytest.approx(expected, rel=1e-5)


def test_unknown_creatives_are_null(market):
    table = market.table.slice(0, 1).to_pylist()
    table[0]["candidates"][0]["creative_id"] = "never heard of"
    changed = type(market.table).from_pylist(table, market.table.schema)
    creatives = RankingCollate(market.catalogue, market.skus, training=False)(changed).creatives
    place = creatives.ids.tolist().index(hash_strings(["never heard of"])[0])
    assert creatives.elements.lengths()[place] == creatives.ngrams.lengths()[place] == creatives.impressions[place] == 0


def test_the_collate_travels_to_other_processes(market):
    collate = pickle.loads(pickle.dumps(RankingCollate(market.catalogue, market.skus, training=True)))
    batch, same = collate(market.table), market.batch(training=True)
    assert np.array_equal(batch.ad_history, same.ad_history) and len(batch) == len(same) == market.table.num_rows
    assert torch.equal(batch.to("cpu").creative_index, same.creative_index)


def test_rows_without_a_sku_are_refused(market):
    with pytest.raises(DataError, match="'sku_id'"):
        RankingCollate(market.catalogue, market.skus, training=False)(market.table.drop_columns(["sku_id"]))
