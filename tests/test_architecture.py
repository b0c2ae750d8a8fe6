"""Imports go one way, the light side stays light, the catalog brings in nothing heavy (design.md, section 1)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project

LIGHT = (
    "errors", "yamlwalk", "yamlfile", "parsed", "reader", "plan", "build", "spec", "source", "settings", "store",
    "status", "grid", "glance",
)  # fmt: skip
READERS = ("tracking", "report")  # they read what the store holds, and never reach into the working side
# Each may import those to its left, never to its right.
ORDER = ("jobs", "preflight", "environments", "execute", "verify", "workflow", "compose", "cli")
WORKING = (*ORDER[:-1], "verbs", "measure", "records", "overrides", "asked", "show", "findings", "groups")
HEAVY = (
    "numpy", "torch", "onnx", "onnxruntime", "openvino", "transformers", "sklearn", "matplotlib", "mlflow", "ray",
    "redis", "requests", "tritonclient", "aiohttp", "hydra", "kubernetes_validate", "PIL", "pandas",
)  # fmt: skip


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), file


def imports(file: Path, *, inside_functions: bool) -> set[str]:
    """The full names of the project's modules that a file imports."""
    tree = ast.parse(file.read_bytes())
    nodes = list(ast.walk(tree)) if inside_functions else list(_top(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] in ("runner", "tasks", *HEAVY)}


def _top(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _top(child)


def test_tasks_never_import_the_runner() -> None:
    for name, file in modules("tasks"):
        assert not {one for one in imports(file, inside_functions=True) if one.startswith("runner")}, name


def test_kinds_never_import_each_other_and_only_the_catalog_knows_them() -> None:
    tree = ast.parse((ROOT / "tasks" / "catalog.py").read_bytes())
    kinds = {f"{n.module}.{a.name}" for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    kinds = {kind for kind in kinds if not kind.startswith(("tasks.api.", "tasks.checks."))}
    assert len(kinds) > 10
    for name, file in modules("tasks"):
        if name != "tasks.catalog":
            assert not imports(file, inside_functions=True) & kinds, name


def test_services_and_models_stand_below_kinds_and_checks() -> None:
    for name, file in modules("tasks"):
        if name.startswith(("tasks.services", "tasks.models", "tasks.api")):
            above = {n for n in imports(file, inside_functions=True) if n.startswith(("tasks.checks", "tasks.catalog"))}
            assert not above, name


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_side_never_imports_the_working_side(name: str) -> None:
    found = imports(ROOT / "runner" / f"{name}.py", inside_functions=True)
    assert not {one for one in found if one.startswith("tasks")}
    assert not {one.split(".")[1] for one in found if one.startswith("runner.")} & {*WORKING, *READERS}


@pytest.mark.parametrize("name", READERS)
def test_reports_and_tracking_read_the_store_only(name: str) -> None:
    for module, file in modules(f"runner/{name}"):
        above = {one for one in imports(file, inside_functions=True) for w in WORKING if one.startswith(f"runner.{w}")}
        assert not above, module


@pytest.mark.parametrize("place", range(len(ORDER)), ids=ORDER)
def test_the_working_side_imports_one_way(place: int) -> None:
    found = imports(ROOT / "runner" / f"{ORDER[place]}.py", inside_functions=False)
    assert not {f"runner.{name}" for name in ORDER[place + 1 :] if name != "cli"} & found


def loaded(project: Project, code: str) -> set[str]:
    """The top-level names in sys.modules of a fresh process after it ran `code` in the project."""
    argv = [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"]
    env = {**project.env, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(argv, cwd=project.root, env=env, capture_output=True, text=True, timeout=300, check=True)
    return set(json.loads(ended.stderr.splitlines()[-1]))


@pytest.mark.parametrize("verb", ["status", "next", "done", "plan=week01"])
def test_the_light_verbs_load_nothing_that_works(verb: str, project: Project) -> None:
    """`status` and a run with nothing to do, which takes the same way."""
    words = ["done", "day01"] if verb == "done" else [verb]
    if verb == "plan=week01":
        project.offline()
        assert project.run("plan=week01").returncode == 0
        for record in project.root.glob("artifacts/week01/*/experiments/*/record.json"):
            record.with_name("tracked.json").touch()  # as if MLflow had them
    names = loaded(project, f"from runner import cli\nassert cli.dispatch({words!r}) == 0")
    assert not {name.partition(".")[0] for name in names} & {"tasks", "pydantic", "rich", "psutil", *HEAVY}
    assert not {name for name in names if name.startswith("runner.")} & {f"runner.{name}" for name in WORKING}


def test_the_catalog_brings_in_no_heavy_library(project: Project) -> None:
    names = {name.partition(".")[0] for name in loaded(project, "import tasks.catalog")}
    assert "pydantic" in names
    assert not names & {"runner", *HEAVY}


def test_no_module_is_a_drawer() -> None:
    for package in ("runner", "tasks"):
        for name, _ in modules(package):
            assert not name.endswith((".utils", ".helpers", ".common", ".misc")), name
