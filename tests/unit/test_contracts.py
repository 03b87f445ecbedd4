"""Rules about the code itself: who imports whom, size, documentation, and that every test runs somewhere."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "adray").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LANES = {"unit", "integration", "chaos", "browser", "benchmarks"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes and functions of a module and public methods of its public classes, with their names."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, Function) and not child.name.startswith("_"):
                    yield f"{node.name}.{child.name}", child


def length(node: ast.AST) -> int:
    return (node.end_lineno or 0) - node.lineno + 1  # type: ignore[attr-defined]


def test_import_contracts_hold():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert statistics.median(lengths.values()) < 200
    assert {str(p): n for p, n in lengths.items() if n > 500} == {}
    assert {str(p): n for p in TESTS if (n := len(p.read_text(encoding="utf-8").splitlines())) > 500} == {}


def test_functions_are_short():
    found = {
        f"{path}:{node.lineno} {node.name}": length(node)
        for path in [*SOURCES, *TESTS]
        for node in ast.walk(parse(path))
        if isinstance(node, Function) and length(node) > 80
    }
    assert found == {}


def test_public_things_are_documented():
    missing = [
        f"{path.relative_to(ROOT)} {name}"
        for path in SOURCES
        for name, node in public_definitions(parse(path))
        # A protocol's or an overload's body may be `...` under a signature that says it all.
        if ast.get_docstring(node) is None and not (isinstance(node, Function) and node.name.startswith("__"))
    ]
    undocumented_modules = [str(path) for path in SOURCES if ast.get_docstring(parse(path)) is None and path.read_text().strip()]
    assert missing == []
    assert undocumented_modules == []


def test_everything_is_annotated():
    missing = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, Function):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                bare = [a.arg for a in arguments if a.annotation is None and a.arg not in {"self", "cls"}]
                if bare or node.returns is None:
                    missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {bare}")
    assert missing == []


def test_nothing_is_unpickled():
    """Artifacts and requests come from outside; loading a pickle would run their code."""
    banned = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    users = [
        str(path)
        for path in SOURCES
        for node in ast.walk(parse(path))
        if (isinstance(node, ast.Import) and banned & {a.name.split(".")[0] for a in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in banned)
    ]
    assert users == []


def test_ray_is_started_in_one_place():
    users = [str(p.relative_to(ROOT)) for p in SOURCES if "ray.init(" in p.read_text(encoding="utf-8")]
    assert users == ["adray/ray_session.py"]


def test_every_test_file_has_a_lane():
    files = [path.relative_to(ROOT / "tests") for path in TESTS if path.name.startswith("test_")]
    assert [str(path) for path in files if path.parts[0] not in LANES] == []


def test_files_that_look_like_tests_are_collected():
    stray = [
        str(path)
        for path in TESTS
        if not path.name.startswith("test_") and any(isinstance(n, Function) and n.name.startswith("test_") for n in parse(path).body)
    ]
    assert stray == []


def test_unit_tests_start_no_ray():
    starters = {"ray_cluster", "ray.init("}
    files = [p for p in TESTS if p.is_relative_to(ROOT / "tests" / "unit") and p != Path(__file__)]
    assert [str(p) for p in files if any(s in p.read_text(encoding="utf-8") for s in starters)] == []


def test_no_test_sleeps():
    """A test waits for a condition with a time-out; a fixed sleep is either too short or too long. Benchmarks may sample."""
    exempt = (ROOT / "tests" / "helpers", ROOT / "tests" / "benchmarks")
    sleepers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in TESTS
        if not path.is_relative_to(exempt[0]) and not path.is_relative_to(exempt[1])
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]
    assert sleepers == []


def test_rooms_of_tests_mirror_the_rooms_of_code():
    rooms = {path.name for path in (ROOT / "adray").iterdir() if path.is_dir()}
    folders = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= rooms
