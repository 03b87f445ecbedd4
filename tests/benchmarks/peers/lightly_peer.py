"""MoCo v3-style training with lightly's own modules, as its documentation puts them together: heads, momentum update, loss."""

# ruff: noqa: E402
import copy
import sys
import types

import torch

# torchvision's wheel may have been built for another torch; lightly imports it, but nothing here calls its operators.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
_library = torch.library.Library("torchvision", "DEF")
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from moco_backbone import HIDDEN, MOMENTUM, OUT, TEMPERATURE, WIDTHS, backbone, measure, ready_views

BATCH = 128

torch.set_num_threads(1)
torch.manual_seed(0)
encoder = backbone()
projector = MoCoProjectionHead(WIDTHS[-1], HIDDEN, OUT, num_layers=2, batch_norm=True)
predictor = MoCoProjectionHead(OUT, HIDDEN, OUT, num_layers=2, batch_norm=True)
key_encoder, key_projector = copy.deepcopy(encoder), copy.deepcopy(projector)
deactivate_requires_grad(key_encoder)
deactivate_requires_grad(key_projector)
criterion = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=0)
weights = [*encoder.parameters(), *projector.parameters(), *predictor.parameters()]
optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05, fused=True)


def step(first, second):
    update_momentum(encoder, key_encoder, m=MOMENTUM)
    update_momentum(projector, key_projector, m=MOMENTUM)
    with torch.autocast("cpu", torch.bfloat16):
        queries = [predictor(projector(encoder(view))) for view in (first, second)]
        with torch.no_grad():
            keys = [key_projector(key_encoder(view)) for view in (first, second)]
        loss = criterion(queries[0].float(), keys[1].float()) + criterion(queries[1].float(), keys[0].float())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


measure(step, ready_views(BATCH), BATCH)
