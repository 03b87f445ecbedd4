"""Which environment variables travel with a job.

Ray keeps a job's variables in clear: in the head's store, in its logs, and in the answer to every client that holds the
cluster's token (only a browser sees them blanked). So a short list of settings travels and no secret ever does; secrets
belong in the environment of the cluster's nodes, which a job inherits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from adray.errors import ConfigError

PASSED = (
    "DS_ACCELERATOR",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
    "TOKENIZERS_PARALLELISM",
    "TRANSFORMERS_OFFLINE",
    "WANDB_ENTITY",
    "WANDB_MODE",
    "WANDB_PROJECT",
)
"""Settings that travel whenever they are set here."""

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|(^|_)AUTH(_|$)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret. `TOKENIZERS_PARALLELISM` and the like are told apart."""
    return name not in PASSED and _SECRET.search(name) is not None


def named_in(values: Any) -> set[str]:
    """Names of the `${VARIABLES}` in a config's values: its paths need them where the run is executed."""
    if isinstance(values, Mapping):
        return {name for value in values.values() for name in named_in(value)}
    if isinstance(values, list | tuple):
        return {name for value in values for name in named_in(value)}
    return set(_VARIABLE.findall(values)) if isinstance(values, str) else set()


def job_environment(values: Mapping[str, Any], pass_env: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that travel with a job.

    Args:
        values: The config as written; the `${VARIABLES}` of its paths travel.
        pass_env: Further names, the config's `submit.pass_env`; each must be set.
        environment: Where the values are taken from.

    Returns:
        Name -> value, sorted by name.

    Raises:
        ConfigError: If a name is no variable's, is not set, or names a secret. No value is ever told.
    """
    asked = list(pass_env)
    for name in asked:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"field 'submit.pass_env' holds {name!r}, which is no variable's name", "give names alone, never NAME=value")
        if name not in environment:
            raise ConfigError(f"field 'submit.pass_env' names {name}, which is not set", f"export {name}=..., or take it out")
    found = {name for name in {*PASSED, *named_in(values)} if name in environment}
    for name in sorted({*asked, *found}):
        if is_secret(name):
            cure = "set it in the environment of the cluster's nodes, where jobs find it (cluster/README.md)"
            raise ConfigError(f"{name} looks like a secret, and Ray keeps a job's variables in clear, so it does not travel", cure)
    return {name: environment[name] for name in sorted({*asked, *found})}
