"""`torchrun tests/helpers/torchrun_fit.py <json>`: one `fit` of the synthetic task in every process that torchrun starts."""

from __future__ import annotations

import json
import sys

from adray.errors import AdrayError
from adray.training.config import TrainingConfig
from adray.training.fit import fit
from tests.helpers.synthetic_training import SyntheticTask


def main(text):
    given = json.loads(text)
    task, config = SyntheticTask(**given["task"]), TrainingConfig(**given["config"])
    try:
        fit(task, config, run_folder=given["folder"], run_name="synthetic", seed=given["seed"], resume=given["resume"], quiet=True)
    except AdrayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
