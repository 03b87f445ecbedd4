"""What travels: the project's own files, no data, no keys, and not too much of it."""

import os
import subprocess
import zipfile

import pytest

from adray.errors import ConfigError, ResourceError
from adray.jobs.package import RAY_LIMIT_MIB, code_hash, human, project_files, write_package


@pytest.fixture
def project(tmp_path):
    """A git checkout with one file of every sort."""
    root = tmp_path / "project"
    texts = {
        ".gitignore": "ignored/\n*.log\n",
        "launch.py": "x",
        "adray/data/reader.py": "x",
        "configs/new.yaml": "untracked",
        "run.sh": "x",
        "ignored/a.py": "x",
        "debug.log": "x",
        "data/table.parquet": "x",
        "runs/a/report.json": "x",
        "tests/test_a.py": "x",
        ".env": "WANDB_API_KEY=k",
        "certs/me.key": "k",
        "gone.py": "x",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "run.sh").chmod(0o755)
    (tmp_path / "outside").write_text("x")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / ".venv").symlink_to(tmp_path)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "launch.py", "adray", "gone.py", ".env"], check=True)
    (root / "gone.py").unlink()
    return root


def test_the_projects_own_files_travel_and_nothing_else(project):
    assert project_files(project) == [".gitignore", "adray/data/reader.py", "configs/new.yaml", "launch.py", "run.sh"]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="submit from a git checkout"):
        project_files(tmp_path)


def test_the_hash_is_of_names_and_bytes_alone(project):
    files = project_files(project)
    before = code_hash(project, files)
    os.utime(project / "launch.py", (0, 0))
    assert code_hash(project, files) == before
    (project / "launch.py").write_text("y")
    assert code_hash(project, files) != before


def test_the_same_files_make_the_same_archive(project, tmp_path):
    files = project_files(project)
    first = write_package(project, files, {"submitted/a.yaml": "name: a"}, tmp_path / "1.zip", 10**6)
    os.utime(project / "launch.py", (0, 0))
    write_package(project, files, {"submitted/a.yaml": "name: a"}, tmp_path / "2.zip", 10**6)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(first.path) as archive:
        assert sorted(archive.namelist()) == sorted([*files, "submitted/a.yaml"])
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o111
        assert not archive.getinfo("launch.py").external_attr >> 16 & 0o111
    assert (first.files, first.bytes) == (6, first.path.stat().st_size)


def test_a_package_that_is_too_large_names_the_largest_files(project, tmp_path):
    for name, size in (("big.bin", 300_000), ("adray/middle.bin", 200_000), ("small.bin", 1000)):
        (project / name).write_bytes(os.urandom(size))
    with pytest.raises(ResourceError) as error:
        write_package(project, project_files(project), {}, tmp_path / "a.zip", 400_000)
    text = str(error.value)
    assert "in a package, 390.6 KiB are allowed; largest: big.bin 29" in text
    assert text.index("big.bin 29") < text.index("adray/middle.bin 195.") < text.index("small.bin 1")
    assert ".gitignore" in text


def test_the_limit_is_rays():
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE

    assert RAY_LIMIT_MIB * 2**20 == DASHBOARD_CLIENT_MAX_SIZE


def test_sizes_are_readable():
    assert [human(n) for n in (5, 2048, 3 * 2**20, 5 * 2**30)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]
