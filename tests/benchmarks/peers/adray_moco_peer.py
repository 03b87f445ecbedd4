"""adray's MoCo v3 step on the same backbone: its module, its losses, its logging figures."""

import torch
from moco_backbone import HIDDEN, MOMENTUM, OUT, SIDE, TEMPERATURE, WIDTHS, backbone, measure, ready_views

from adray.representation.encoders.base import EncoderInputs
from adray.representation.encoders.pixels import PixelEncoder
from adray.representation.moco.batches import ViewBatch
from adray.representation.moco.config import KnnConfig, MocoConfig
from adray.representation.moco.module import MocoModule
from adray.representation.views.config import AugmentationConfig

BATCH = 128


class Shared(PixelEncoder):
    def __init__(self):
        super().__init__("shared", SIDE)
        self.net, self.dim = backbone(), WIDTHS[-1]

    def pooled(self, inputs):
        return self.net(inputs.tensors["pixels"])


torch.set_num_threads(1)
torch.manual_seed(0)
config = MocoConfig(hidden=HIDDEN, out=OUT, temperature=TEMPERATURE, momentum=MOMENTUM)
module = MocoModule(Shared(), config, AugmentationConfig(), seed=0, export=lambda e, f: None, knn=KnnConfig(), convolutional=True).train()
optimizer = torch.optim.AdamW(module.parameter_groups(), lr=1e-3, weight_decay=0.05, fused=True)
ids = torch.arange(BATCH)


def step(first, second):
    batch = ViewBatch(EncoderInputs({"pixels": first}, BATCH), EncoderInputs({"pixels": second}, BATCH), ids, ids, torch.zeros_like(ids))
    module.before_step(0.1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(batch)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


measure(step, ready_views(BATCH), BATCH)
