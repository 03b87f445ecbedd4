"""A step of feedback fine-tuning against a hand-written loop: same networks, same pictures, same losses, same threads, in turn.

    python tests/benchmarks/rfft_step.py [--rounds 3] [--steps 8] [--batch 16] [--clock cpu]

Bar: step time <= 1.05 of the loop's. The loop uses diffusers and torch directly: it decodes cut-outs, draws their edges, samples to
the chosen step, takes the gradient through ControlNet, decoder, maps and inspector, adds Consistent Condition, clips and steps AdamW. The
trainer also streams, logs, averages and checkpoints. Weights are random; their sizes are those of the small generator.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402

from adray.generation.rfft.config import RfftRunConfig  # noqa: E402
from adray.generation.rfft.module import FeedbackModule  # noqa: E402
from adray.generation.rfft.products import prepare_products  # noqa: E402
from adray.generation.rfft.source import chosen_step  # noqa: E402
from adray.generation.rfft.task import FeedbackTask  # noqa: E402
from adray.generation.usable import UsableTables  # noqa: E402
from adray.training.fit import fit  # noqa: E402
from tests.helpers.rfft_run import prepare, products, training  # noqa: E402

BAR = 1.05
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BETA, GUIDANCE, STEPS, LAST = 10.0, 2.0, 10, 6


class Timed(FeedbackTask):
    """The task, whose module notes when each step begins."""

    clock: Callable[[], float]
    begun: list[float]

    def build_module(self) -> FeedbackModule:
        """As the task's."""
        module = super().build_module()
        module.before_step = lambda progress: Timed.begun.append(Timed.clock())  # type: ignore[method-assign]
        return module


def trainer(config: RfftRunConfig, tables: UsableTables, folder: Path, clock: Callable[[], float]) -> float:
    """Seconds per step of the trainer."""
    Timed.clock, Timed.begun = staticmethod(clock), []  # type: ignore[assignment]
    fit(Timed(config, tables), config.training, run_folder=folder, run_name="b", seed=0, resume=False, record={})
    return statistics.median(np.diff(Timed.begun)[1:])


def hand_written(config: RfftRunConfig, tables: UsableTables, steps: int, clock: Callable[[], float]) -> float:
    """Seconds per step of the loop."""
    task = FeedbackTask(config, tables)
    module = task.build_module()
    unet, net, teacher, vae = module.unet, module.controlnet, module.teacher, module.vae
    text, tokenizer, inspector = module.text_encoder, module._parts.tokenizer, module.inspector
    scheduler = copy.deepcopy(module._parts.scheduler)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    rows = pq.read_table(config.data.table("train")).to_pylist()
    size, rng, took = config.training.batch_size, np.random.default_rng(0), []
    for step in range(steps):
        start = clock()
        chosen = [rows[i] for i in rng.permutation(len(rows))[:size]]
        cutouts = np.stack([np.asarray(Image.open(io.BytesIO(row["cutout"]["bytes"]))) for row in chosen])
        edges = np.stack([cv2.Canny(np.ascontiguousarray(c[..., :3] * (c[..., 3:] // 255)), 100, 200) for c in cutouts])
        control = torch.from_numpy(edges)[:, None].expand(-1, 3, -1, -1).float() / 255
        masks = np.stack([cv2.dilate(255 - c[..., 3], np.ones((1, 1), np.uint8)) for c in cutouts])
        alpha = torch.from_numpy(cutouts).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            product = vae.encode(2 * alpha[:, :3] * alpha[:, 3:] - 1).latent_dist.mode() * vae.config.scaling_factor
            prompts = [""] * size + [f"{row['copy']}, red room" for row in chosen]
            ids = tokenizer(prompts, padding="max_length", max_length=12, truncation=True, return_tensors="pt").input_ids
            words = text(ids[:size])[0], text(ids[size:])[0]
        both, shown = torch.cat(words), torch.cat([control, control])
        mask = F.max_pool2d(torch.from_numpy(masks)[:, None].float() / 255, 32 // product.shape[-1])
        noise = torch.randn_like(product)
        scheduler.set_timesteps(STEPS)
        last = chosen_step(config.seed, 0, step, 0, STEPS, LAST)

        def outputs(controlnet: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, both: torch.Tensor = both, shown: torch.Tensor = shown):  # noqa: ANN202
            down, middle = controlnet(torch.cat([x, x]), t, both, shown, return_dict=False)
            out = unet(torch.cat([x, x]), t, both, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
            return out.chunk(2)

        x = noise
        with torch.no_grad():
            for index, t in enumerate(scheduler.timesteps[:last]):
                negative, positive = outputs(net, x, t)
                x = scheduler.step(negative + GUIDANCE * (positive - negative), t, x).prev_sample
                x = (1 - mask) * scheduler.add_noise(product, noise, scheduler.timesteps[index + 1 : index + 2]) + mask * x
        t = scheduler.timesteps[last]
        negative, positive = outputs(net, x, t)
        with torch.no_grad():
            negative_ref, positive_ref = outputs(teacher, x, t)
        level = scheduler.alphas_cumprod[t]
        clean = (1 - mask) * product + mask * (negative + GUIDANCE * (positive - negative))
        pictures = (vae.decode(clean / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        pictures = alpha[:, :3] * alpha[:, 3:] + pictures * (1 - alpha[:, 3:])
        logits = inspector(pictures, alpha, [row["copy"] for row in chosen])
        moved = (positive - negative) - (positive_ref - negative_ref)
        loss = F.cross_entropy(logits, torch.zeros(size, dtype=torch.int64)) + BETA * (level / (1 - level) * moved**2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        took.append(clock() - start)
    return statistics.median(took[1:])


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process alone, for a busy machine")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = prepare(folder, widths=(64, 128))
        pq.write_table(products(options.batch * (options.steps + 2)), folder / "train.parquet")
        values["feedback"].update(beta=BETA, last_steps=LAST)
        values["sampling"].update(steps=STEPS, guidance=GUIDANCE)
        how = training(max_steps=options.steps, batch_size=options.batch, clip_norm=1.0, checkpoint_every=10**6, log_every=4)
        config = RfftRunConfig(**{**values, "name": "b", "training": how})
        tables = prepare_products(config.data, config.placement, folder / "tables")
        loops, steps = [], []
        for turn in range(options.rounds):
            loops.append(hand_written(config, tables, options.steps, clock))
            steps.append(trainer(config, tables, folder / f"round-{turn}", clock))
    ratios = [ours / theirs for ours, theirs in zip(steps, loops, strict=True)]
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"batch {options.batch}, {STEPS} DDIM steps, {threads} thread(s), {options.clock} time, load {load:.1f}")
    print(f"{'':24}{'s/step, median':>16}")
    print(f"{'hand-written loop':24}{statistics.median(loops):16.3f}")
    print(f"{'trainer':24}{statistics.median(steps):16.3f}")
    print(f"ratio within a round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}, bar {BAR}")
    return 0 if statistics.median(ratios) <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
