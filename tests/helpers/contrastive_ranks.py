"""Contrastive losses computed by several processes over gloo, to be compared with one process that has the whole batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from adray.representation.contrastive.identity import Keys
from adray.representation.contrastive.info_nce import Pairs, Settings, info_nce

DIM, FEATURES, HARD = 6, 5, 2
COUNTS = {"even": (4, 4, 4), "uneven": (4, 2, 3), "two": (4, 3)}
TEMPERATURE = 0.3


def data(rows: int) -> dict[str, Tensor]:
    """The whole batch: features of queries, documents and hard negatives, weights of the shared tower, identities."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "queries": draw(rows, FEATURES),
        "documents": draw(rows, FEATURES),
        "hard": draw(rows * HARD, FEATURES),
        "weight": draw(DIM, FEATURES),
        "skus": torch.arange(rows) % (rows - 2) + 1,
        "frequency": draw(rows, 2),
    }


def keys(skus: Tensor) -> Keys:
    """Identities by SKU alone."""
    nothing = torch.zeros(len(skus), 1, dtype=torch.int64)
    return Keys(skus, nothing, nothing)


def ours(part: dict[str, Tensor], weight: Tensor, scenario: str) -> Tensor:
    """The project's loss for some rows, in one of the scenarios."""
    queries, documents, hard = (F.normalize(part[name] @ weight.T, dim=1) for name in ("queries", "documents", "hard"))
    pairs = Pairs(
        queries,
        documents,
        keys(part["skus"]) if scenario in ("masked", "hard") else None,
        hard if scenario in ("hard", "frequency") else None,
        keys(part["skus"].repeat_interleave(HARD) + 100) if scenario == "hard" else None,
        part["frequency"] if scenario == "frequency" else None,
    )
    settings = Settings(margin=0.1 if scenario == "masked" else None, dims=(3, DIM) if scenario == "matryoshka" else ())
    return info_nce(pairs, TEMPERATURE, settings).loss


def wrong(part: dict[str, Tensor], weight: Tensor, scheme: str) -> Tensor:
    """Known wrong ways: `local` leaves other ranks' columns without gradient, `unscaled` has every rank score all rows."""
    queries, documents = (F.normalize(part[name] @ weight.T, dim=1) for name in ("queries", "documents"))
    rank, n = dist.get_rank(), len(queries)

    def gathered(values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.detach().contiguous())
        parts[rank] = values
        return torch.cat(parts)

    if scheme == "local":
        own = torch.arange(n) + rank * n
        return F.cross_entropy(queries @ gathered(documents).T / TEMPERATURE, own)
    every = gathered(queries) @ gathered(documents).T / TEMPERATURE
    return F.cross_entropy(every, torch.arange(len(every)))


def _rank(rank: int, folder: str, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store{size}", size), rank=rank, world_size=size)
    results: dict[str, Tensor] = {}
    for spread, counts in COUNTS.items():
        if len(counts) != size:
            continue
        whole, start = data(sum(counts)), sum(counts[:rank])
        rows = slice(start, start + counts[rank])
        part = {name: values[rows] for name, values in whole.items() if name not in ("weight", "hard")}
        part["hard"] = whole["hard"][start * HARD : (start + counts[rank]) * HARD]
        runs = {name: ours for name in ("plain", "masked", "hard", "frequency", "matryoshka")}
        runs |= {name: wrong for name in ("local", "unscaled")} if spread == "even" else {}
        for name, run in runs.items():
            weight = whole["weight"].clone().requires_grad_()
            loss = run(part, weight, name)
            loss.backward()
            # What data-parallel training does with the gradients.
            dist.all_reduce(weight.grad)
            results[f"{spread}/{name}/gradient"] = weight.grad / size
            value = loss.detach().clone().reshape(1)
            dist.all_reduce(value)
            results[f"{spread}/{name}/loss"] = value / size
    if rank == 0:
        save_file(results, f"{folder}/results{size}.safetensors")
    dist.destroy_process_group()


def run_ranks(folder: Path) -> dict[str, Tensor]:
    """Run all scenarios in two and three processes; gradients and losses as data-parallel training would average them."""
    found: dict[str, Tensor] = {}
    for size in sorted({len(counts) for counts in COUNTS.values()}):
        mp.spawn(_rank, (str(folder), size), nprocs=size)
        found |= load_file(folder / f"results{size}.safetensors")
    return found
