"""Configuration: one YAML file is one run.

Each component owns a `Config` class beside its code. Unknown or wrong fields end in one line that names the
field's path, the value, what is allowed, and the nearest valid name.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from adray.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Config(BaseModel):
    """Base of every config class: unknown keys are errors, field docstrings are descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)


def expand_path(value: str) -> str:
    """Replace `${NAME}` by the environment variable and make a local path absolute.

    Ray Train workers change directory, so a relative path must be resolved before anything starts.
    Only path fields are expanded: no other field can copy the environment into a saved config.

    Args:
        value: A local path or a URI such as `s3://bucket/key`.

    Returns:
        The absolute path, or the URI unchanged.

    Raises:
        ValueError: If a named variable is not set or empty.
    """

    def lookup(match: re.Match[str]) -> str:
        name = match.group(1)
        found = os.environ.get(name, "")
        if not found:
            state = "empty" if name in os.environ else "not set"
            raise ValueError(f"environment variable {name} is {state}; export {name}=..., or --set this field")
        return found

    value = _VARIABLE.sub(lookup, value)
    if "://" in value:
        return value
    return str(Path(value).expanduser().absolute())


PathStr = Annotated[str, AfterValidator(expand_path)]
"""A path field: `${VARIABLES}` expanded, local paths absolute, URIs left alone."""


class RunConfig(Config):
    """What every run's file holds, whatever its kind."""

    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = None
    """Dotted fields that may change when a run with checkpoints is resumed; every other one must be as it was. None: the kind
    itself knows what to keep (a study, a world)."""

    kind: str
    """Which component reads this file: `world`, `ranker`, `embedding`, `index`, `serve`, `study`, `demo`, ..."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's name; its folder is `<runs_dir>/<name>`."""
    runs_dir: PathStr = "runs"
    """Where run folders live: a local path, shared by all nodes when the run is distributed."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random choice in the run."""
    resume: bool = False
    """Go on with the run of this name from its last complete checkpoint."""
    replace: bool = False
    """Delete an existing run of this name and start afresh."""


C = TypeVar("C", bound=BaseModel)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one config file and, below it, the files its `base` key names.

    Args:
        path: A YAML file. `base: other.yaml` (relative to the file) is merged underneath.

    Returns:
        The merged mapping, without `base`.

    Raises:
        ConfigError: If the file is missing, a folder, unreadable, not text, not YAML, or not a mapping.
    """
    path = Path(path)
    if path.is_dir():
        near = sorted(p.name for p in path.glob("*.yaml"))
        cure = f"name one of its files, for example {path / near[0]}" if near else "name a YAML file"
        raise ConfigError(f"config {path} is a folder, not a file", cure)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        raise ConfigError(f"config file {path} does not exist", f"did you mean {near[0]}?" if near else "check the path") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}", "check its permissions and its disk") from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise ConfigError(f"config file {path} is not a text file (UTF-8)", "name the run's YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not valid YAML: {error}", "mend that line") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"config file {path} holds {type(loaded).__name__}, not a mapping", "write `key: value` lines")
    base = loaded.pop("base", None)
    return merge(read_yaml(path.parent / base), loaded) if base else loaded


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings; nested mappings are merged, everything else in `over` wins."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `--set a.b=c` overrides; values are parsed as YAML (`1e-3`, `true`, `[1, 2]`, text).

    Raises:
        ConfigError: If an override has no `=` or its path runs through something that is not a mapping.
    """
    result = json.loads(json.dumps(values, default=str))
    for override in overrides:
        path, sign, text = override.partition("=")
        if not sign or not path.strip():
            raise ConfigError(f"--set {override!r} is not of the form a.b=value", "write for example --set training.epochs=2")
        node = result
        *parents, leaf = path.strip().split(".")
        for parent in parents:
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                raise ConfigError(f"--set {override!r}: {parent!r} holds {node!r}, not a section", "set the whole field instead")
        node[leaf] = _parse_scalar(text)
    return result


def _parse_scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        # YAML 1.1 reads `1e-3` as text; people who type it mean the number.
        try:
            return float(value) if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value) else value
        except ValueError:
            return value
    return value


def validate(cls: type[C], values: Mapping[str, Any], source: str) -> C:
    """Build a config object, turning pydantic's report into one line.

    Args:
        cls: The config class.
        values: Parsed values.
        source: What to call the origin in the error, usually the file's path.

    Raises:
        ConfigError: For the first wrong field, with its path, value, and nearest valid name.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(cls, error)}") from None


def _explain(cls: type[BaseModel], error: ValidationError) -> str:
    # Unknown fields first: a misspelt name often causes the "missing" that pydantic lists before it.
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    path = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        names = _valid_names(cls, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(names)}"
        return f"unknown field {path!r}{more}; {hint}"
    if first["type"] == "missing":
        return f"field {path!r} is missing{more}; add it or pass --set {path}=..."
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        return f"{message}{more}"
    return f"field {path!r} is {_short(first['input'])}: {message}{more}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _valid_names(cls: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Field names of the model(s) reached by following `location` from `cls`."""
    models: list[type[BaseModel]] = [cls]
    for part in location:
        reached = [m for model in models if part in model.model_fields for m in _models_in(model.model_fields[str(part)].annotation)]
        models = reached or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, list, dict, tuple, Annotated):
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)


def dump_yaml(config: BaseModel) -> str:
    """The resolved config as YAML text, fields in declared order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
