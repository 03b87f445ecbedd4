"""Does the exported light half say what the joint graph says?"""

from __future__ import annotations

import numpy as np
import torch

from adray.data.batch import Ragged
from adray.errors import ArtifactError
from adray.ranking import arrays
from adray.ranking.batch import RankingBatch
from adray.ranking.joint import JointRanker
from adray.ranking.scoring import LightRanker


def split_max_abs_diff(joint: JointRanker, light: LightRanker, batch: RankingBatch) -> float:
    """Largest absolute difference between the joint graph's logits and the artifact's, click and exposure, at the same code.

    The joint graph encodes the batch's creatives and computes the live ad score; the artifact reads its stored creative
    vectors and is given the same score.

    Args:
        joint: The model that was exported; put into eval mode for the while.
        light: Its artifact.
        batch: Lists to compare on; candidates that the store lacks are left out.

    Raises:
        ArtifactError: If the store holds none of the batch's candidates.
    """
    was_training = joint.training
    joint.eval()
    scores = joint.scores(batch)
    joint.train(was_training)
    assert scores.click_logit is not None and scores.exposure_logit is not None, "the model has no light half"
    order = np.argsort(light.store.creatives)
    places = arrays.find(light.store.creatives[order], batch.impressions.candidates.values.numpy())
    there = places >= 0
    if not there.any():
        raise ArtifactError(f"artifact {light.artifact.folder} holds none of the batch's creatives", "compare it with its own tables")
    fed = scores.ad_probability if joint.config.joint else batch.ad_history
    with torch.inference_mode():
        side = light.module.user_side(batch.impressions) + light.module.sku_side(batch.impressions)
        kept, segments = torch.from_numpy(there), batch.lists().segments
        rows = order[places[there]]
        lengths = torch.bincount(segments[kept], minlength=len(batch))
        lists = Ragged(torch.arange(rows.size), torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        output = light.score_rows(side, fed, rows, segments[kept], light.tiers(rows, lists, light.clicked(batch.impressions)))
        differences = torch.stack([output.click - scores.click_logit[kept], output.exposure - scores.exposure_logit[kept]])
    return float(differences.abs().max())
