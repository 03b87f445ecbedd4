"""Start real torchrun processes for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def torchrun_fit(processes, folder, *, task=None, config=None, seed=1, resume=False, timeout=240):
    """Run `fit` of the synthetic task in `processes` processes; returns the finished subprocess."""
    given = {"folder": str(folder), "task": task or {}, "config": config or {}, "seed": seed, "resume": resume}
    return torchrun(processes, ROOT / "tests" / "helpers" / "torchrun_fit.py", json.dumps(given), timeout=timeout)


def torchrun(processes, script, *arguments, timeout=240):
    """Run a script under torchrun on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
