"""InfoNCE over ranks against one process with the whole batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import contrastive_ranks as ranks


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    return ranks.run_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("scenario", ["plain", "masked", "hard", "frequency", "matryoshka"])
@pytest.mark.parametrize("counts", ["even", "uneven", "two"])
def test_many_ranks_equal_one(spread, counts, scenario):
    whole = ranks.data(sum(ranks.COUNTS[counts]))
    weight = whole["weight"].clone().requires_grad_()
    loss = ranks.ours({name: values for name, values in whole.items() if name != "weight"}, weight, scenario)
    loss.backward()
    assert float(spread[f"{counts}/{scenario}/loss"]) == pytest.approx(float(loss), abs=1e-9)
    torch.testing.assert_close(spread[f"{counts}/{scenario}/gradient"], weight.grad, atol=1e-9, rtol=1e-9)


def test_the_comparison_would_notice_wrong_gathers(spread):
    whole = ranks.data(sum(ranks.COUNTS["even"]))
    weight = whole["weight"].clone().requires_grad_()
    q, d = (F.normalize(whole[name] @ weight.T, dim=1) for name in ("queries", "documents"))
    F.cross_entropy(q @ d.T / ranks.TEMPERATURE, torch.arange(len(q))).backward()
    unscaled, local = spread["even/unscaled/gradient"], spread["even/local/gradient"]
    torch.testing.assert_close(3 * unscaled, weight.grad, atol=1e-9, rtol=1e-9)
    assert F.cosine_similarity(local.flatten(), weight.grad.flatten(), dim=0) < 0.999
