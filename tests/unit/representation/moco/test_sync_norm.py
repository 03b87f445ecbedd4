"""BatchNorm over ranks in one process: torch's own; several processes are in the integration tests."""

import pytest
import torch
from torch import nn

from adray.representation.moco.sync_norm import CrossRankBatchNorm, synchronised


def test_every_norm_is_replaced_with_its_own_tensors():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, affine=False)))
    net[1].requires_grad_(False)
    before = dict(net.named_parameters()) | dict(net.named_buffers())
    synchronised(net)
    assert isinstance(net[1], CrossRankBatchNorm) and isinstance(net[2][1], CrossRankBatchNorm)
    after = dict(net.named_parameters()) | dict(net.named_buffers())
    assert before.keys() == after.keys() and all(after[name] is tensor for name, tensor in before.items())
    assert not net[1].weight.requires_grad, "what is frozen stays frozen"


@pytest.mark.parametrize("shape", [(16, 5), (6, 5, 3, 2)])
def test_alone_it_is_torchs(shape):
    torch.manual_seed(0)
    plain = nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    ours = synchronised(type(plain)(5))
    x = 3 * torch.randn(shape) + 2
    for mode in (True, False):
        plain.train(mode), ours.train(mode)
        torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.running_var, plain.running_var)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        CrossRankBatchNorm(4).train()(torch.zeros(2, 4, 3))
