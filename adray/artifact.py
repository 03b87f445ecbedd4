"""The artifact: an exported model that loads alone, without the run that made it.

A folder of `artifact.json` (kind, format version, content hash, config, metrics, lineage, file list) beside
safetensors files and, where a model needs them, memory-mapped NumPy arrays or Faiss indexes. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adray.errors import ArtifactError
from adray.files import replacing_folder, sha256, write_json

if TYPE_CHECKING:
    import numpy as np
    import torch

FORMAT_VERSION = 1
_MANIFEST = "artifact.json"
_ALLOWED_SUFFIXES = {".safetensors", ".npy", ".json", ".faiss"}


@dataclass(frozen=True)
class Artifact:
    """A verified artifact on disk.

    Attributes:
        folder: Where it lies.
        kind: What the model is, e.g. `ranker.light`.
        content_hash: SHA-256 (hex) over kind, config and every file's bytes; equal content, equal hash.
        config: What rebuilds the model.
        metrics: Figures measured when it was made.
        lineage: Where it came from: tables (path, rows, fingerprint), parent artifacts, run name.
    """

    folder: Path
    kind: str
    content_hash: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, name: str = "model") -> dict[str, torch.Tensor]:
        """Load `<name>.safetensors` as a state dict on the CPU."""
        from safetensors.torch import load_file

        return load_file(self._existing(f"{name}.safetensors"))

    def array(self, name: str) -> np.ndarray:
        """Memory-map `<name>.npy` read-only; pickled arrays are refused."""
        import numpy as np

        return np.load(self._existing(f"{name}.npy"), mmap_mode="r", allow_pickle=False)

    def read_json(self, name: str) -> Any:
        """Parse `<name>.json`."""
        return json.loads(self._existing(f"{name}.json").read_text(encoding="utf-8"))

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise ArtifactError(f"artifact {self.folder} has no file {name}", "export it again")
        return path


@contextmanager
def writing_artifact(
    folder: str | Path,
    kind: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Iterator[Path]:
    """Yield a temporary folder to fill with safetensors / npy / json files; it becomes the artifact on success.

    Raises:
        ArtifactError: If a file of a type that an artifact may not hold was written.
    """
    with replacing_folder(folder) as partial:
        yield partial
        files = {str(p.relative_to(partial)): sha256(p) for p in sorted(partial.rglob("*")) if p.is_file()}
        for name in files:
            if Path(name).suffix not in _ALLOWED_SUFFIXES:
                raise ArtifactError(f"an artifact may not hold {name!r}", f"allowed: {', '.join(sorted(_ALLOWED_SUFFIXES))}")
        manifest = {
            "kind": kind,
            "format_version": FORMAT_VERSION,
            "content_hash": _content_hash(kind, config, files),
            "config": config,
            "metrics": dict(metrics or {}),
            "lineage": dict(lineage or {}),
            "files": files,
        }
        write_json(partial / _MANIFEST, manifest)


def load_artifact(folder: str | Path, kind: str | None = None) -> Artifact:
    """Open an artifact, checking its format, kind and every file's hash.

    Args:
        folder: The artifact's folder.
        kind: The kind that is expected; None takes any.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind or written by a newer version.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"no artifact at {folder}", "train or export it first, or check the path") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"artifact {folder} has an unreadable {_MANIFEST}: {error}", "export it again") from None
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"artifact {folder} has format version {version}, this adray reads {FORMAT_VERSION}", "use the adray that wrote it"
        )
    if kind is not None and manifest["kind"] != kind:
        raise ArtifactError(f"artifact {folder} is a {manifest['kind']!r}, not a {kind!r}", "give the other artifact's path")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise ArtifactError(f"artifact {folder}: file {name} is missing or damaged", "copy or export it again")
    return Artifact(folder, manifest["kind"], manifest["content_hash"], manifest["config"], manifest["metrics"], manifest["lineage"])


def _content_hash(kind: str, config: Mapping[str, Any], files: Mapping[str, str]) -> str:
    text = json.dumps([kind, config, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
