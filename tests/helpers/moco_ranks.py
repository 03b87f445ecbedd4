"""What each process of a group computes of one MoCo step, for comparison with one process that has the whole batch.

Run as `python moco_ranks.py RANK WORLD STORE OUT`: joins a gloo group through a file, computes its part, writes tensors.
"""

import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from adray.representation.encoders.base import EncoderInputs
from adray.representation.encoders.resnet import Resnet, ResnetConfig
from adray.representation.moco.batches import PictureBatch, ViewBatch
from adray.representation.moco.config import KnnConfig, MocoConfig
from adray.representation.moco.module import MocoModule
from adray.representation.views.config import AugmentationConfig
from adray.representation.views.pictures import picture_views

ROWS = 12


def step(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Gradients (averaged over ranks), buffers, loss and views of this rank's share of one batch, in float64."""
    torch.manual_seed(0)
    encoder = Resnet(ResnetConfig(image_size=16, depths=[1, 1], widths=[8, 16])).train()
    views = AugmentationConfig(preset="imagenet")
    # Twice the same id: the pair must be masked also where its halves are on different ranks.
    ids = torch.tensor([*range(ROWS - 1), 2])
    net = MocoModule(
        encoder, MocoConfig(hidden=32, out=16), views, seed=3, export=lambda e, f: None, knn=KnnConfig(), size=16, convolutional=True
    ).train()
    with torch.no_grad():
        # The last norm of a block starts at zero, which would hide the block's gradients.
        for name, p in net.query.named_parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))))
    net.double()
    pictures = torch.randint(0, 256, (ROWS, 3, 18, 18), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    sizes = torch.tensor([[40, 30]]).repeat(ROWS, 1)
    mine = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    batch = PictureBatch(pictures[mine], sizes[mine], ids[mine], ids[mine], epoch=4)
    pair = picture_views(batch.pictures, batch.sizes, batch.ids, seed=3, epoch=4, config=views, size=16)
    first, second = (EncoderInputs({"pixels": view.double()}, len(batch)) for view in pair)
    net.before_step(0.3)
    outputs = net(ViewBatch(first, second, batch.ids, batch.skus, torch.zeros(len(batch), dtype=torch.int64)))
    outputs["loss"].backward()
    result = {"loss": outputs["loss"].detach().clone()}
    result |= {f"gradient.{name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    for value in result.values():
        if world > 1:
            dist.all_reduce(value)
            value /= world
    result |= {f"buffer.{name}": b.clone() for name, b in net.named_buffers()}
    result |= {f"view{v}": view.contiguous() for v, view in enumerate(pair)}
    return result


if __name__ == "__main__":
    rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)
    save_file({name: value.contiguous() for name, value in step(rank, world).items()}, out)
    dist.destroy_process_group()
