from __future__ import annotations

import types

import pytest
import torch

from adray.errors import ArtifactError, ResourceError
from adray.training.checks import artifact_check, worker_memory_check
from adray.training.config import TrainingConfig


def test_an_artifact_that_is_not_there_yet_is_named(tmp_path):
    missing = artifact_check("mine", tmp_path, "rfnet")
    assert isinstance(missing.error, ArtifactError) and "'mine' has no artifact" in str(missing.error)
    (tmp_path / "export" / "rfnet").mkdir(parents=True)
    assert artifact_check("mine", tmp_path, "rfnet").error is None


@pytest.mark.parametrize(("gpus", "needed", "fits"), [(True, 16 * 2**30, True), (True, 16 * 2**30 + 1, False), (False, 2**40, True)])
def test_a_worker_must_fit_its_gpu(monkeypatch, gpus, needed, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=16 * 2**30))
    error = worker_memory_check("much", needed, TrainingConfig(gpus=gpus)).error
    assert error is None if fits else isinstance(error, ResourceError) and "its GPU has 16 GiB" in str(error)
