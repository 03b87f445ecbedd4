from __future__ import annotations

from collections import defaultdict

import numpy as np

from adray.simulation.behaviour import MAX_HISTORY, MAX_LIKED, Behaviour, Lists
from adray.simulation.config import WorldConfig
from adray.simulation.log import draw_requests
from tests.unit.simulation.conftest import draw_log

CONFIG = WorldConfig(users=12, skus=15, impressions=3000, base_ctr=0.2, blocks=10)


def as_lists(lists: Lists) -> list[list[int]]:
    return [lists.values[a:b].tolist() for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)]


def test_behaviour_equals_a_plain_replay_of_the_log() -> None:
    logged = draw_log(CONFIG, seed=9)
    log, traffic, products, creatives = logged.log, logged.log.traffic, logged.model.products, logged.model.creatives
    behaviour = Behaviour(log, products, creatives, CONFIG.blocks)
    rows = slice(700, 3000)
    history, creatives_clicked = map(as_lists, behaviour.history(traffic, rows))
    liked, slots = behaviour.liked_elements(traffic, rows)
    liked_lists = as_lists(liked)
    category_clicks = behaviour.category_clicks(traffic, rows)
    assert slots == 5

    known: dict[int, list[tuple[int, int]]] = defaultdict(list)
    pending: list[tuple[int, int, int]] = []
    block = 0
    for row in range(len(traffic)):
        if traffic.block[row] != block:
            for user, sku, creative in pending:
                known[user].append((sku, creative))
            pending, block = [], traffic.block[row]
        user, sku = int(traffic.users[row]), int(traffic.skus[row])
        if row >= rows.start:
            clicks = known[user]
            assert history[row - rows.start] == [s for s, _ in clicks[-MAX_HISTORY:]]
            assert creatives_clicked[row - rows.start] == [c for _, c in clicks[-MAX_HISTORY:]]
            elements = [int(e) for _, c in clicks for e in creatives.elements[c]]
            assert liked_lists[row - rows.start] == elements[-MAX_LIKED:]
            same = sum(products.category[s] == products.category[sku] for s, _ in clicks)
            assert category_clicks[row - rows.start] == same
        if log.clicked[row]:
            pending.append((user, sku, int(log.creative[row])))
    assert max(map(len, history)) == MAX_HISTORY and max(map(len, liked_lists)) == MAX_LIKED
    assert category_clicks.max() > 0


def test_requests_know_the_whole_log() -> None:
    logged = draw_log(CONFIG, seed=9)
    log, model = logged.log, logged.model
    requests = draw_requests(CONFIG, model, np.arange(12), np.random.default_rng(0))
    behaviour = Behaviour(log, model.products, model.creatives, CONFIG.blocks)
    history = as_lists(behaviour.history(requests, slice(0, 100))[0])
    for user, skus in zip(requests.users[:100], history, strict=True):
        clicked = log.traffic.skus[log.clicked & (log.traffic.users == user)]
        assert skus == clicked[-MAX_HISTORY:].tolist()
