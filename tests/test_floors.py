"""Which package may import which: the table below is the house. A new package must be given its floor."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"

# From the ground up. A package imports from lower floors alone, and inside itself as it likes.
FLOORS = (
    ("tying",),
    ("models", "meters", "runs"),
    ("data",),
    ("config",),
    ("training",),
    ("tasks", "analysis"),
    ("report",),
    ("sweep",),
    ("claims", "audit", "perf", "__main__"),
)
FLOOR = {package: height for height, floor in enumerate(FLOORS) for package in floor}

# Packages that must not know of each other although one stands lower.
STRANGERS = {
    "tying": set(FLOOR) - {"tying"},
    "models": {"data", "meters", "runs"},
    "analysis": {"training", "config", "data", "models"},
    "report": {"training", "config", "data", "models", "tasks"},
    "sweep": {"training", "models", "tasks", "meters"},
    "__main__": {"training", "models", "tasks", "meters", "data"},
}

# What the user starts names the worker's modules and never imports them, nor what is heavy.
LIGHT = ("runs", "config", "analysis", "report", "sweep", "__main__")
HEAVY = {"torch", "lightning", "transformers", "torchvision", "wandb", "tokenizers"}
WORKERS = {"runs.loggers", "report.mirror"}
"""Modules of light packages that only a worker, or a command of its own, imports."""

MOST_PLACES = 16
LONGEST = 600
NAMELESS = ("utils", "util", "helpers", "helper", "misc", "common", "base", "core")


def module_of(path: Path) -> str:
    """bench/tying/plan.py -> tying.plan"""
    return ".".join(path.relative_to(BENCH).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(BENCH.rglob("*.py")) if path != BENCH / "__init__.py"}
LAUNCHER = (
    BENCH.parent / "hydra_plugins" / "bench_launcher.py"
)  # where Hydra finds it; it stands above `sweep`


def package_of(module: str) -> str:
    return module.split(".")[0]


def imports(module: str, lazy: bool = True) -> tuple[set[str], set[str]]:
    """Return the modules of bench, and the other packages, that `module` imports (lazy: inside functions too)."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []  # for editors alone: nothing of it is loaded
    nodes = ast.walk(tree) if lazy else tree.body
    ours, others = set(), set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the floor"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] != "bench":
                others.add(name.split(".")[0])
                continue
            inside = name.removeprefix("bench").removeprefix(".")
            while inside and inside not in MODULES:
                inside = inside.rpartition(".")[0]
            ours |= {inside} - {""}
    return ours, others


def closure(module: str) -> set[str]:
    seen, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += imports(current)[0]
            if "." in current:  # importing a.b runs a
                waiting.append(current.rpartition(".")[0])
    return seen


def test_every_package_has_its_floor():
    assert {package_of(module) for module in MODULES} == set(FLOOR)
    assert sum(map(len, FLOORS)) == len(FLOOR)
    places = [path for path in BENCH.iterdir() if path.name != "__pycache__"]
    assert len(places) <= MOST_PLACES, sorted(path.name for path in places)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    here = package_of(module)
    for other in imports(module)[0]:
        there = package_of(other)
        if (module, other) == ("sweep.measure", "__main__"):
            continue  # the command line of a sweep, started by the command that measures
        assert there == here or FLOOR[there] < FLOOR[here], f"{module} imports {other}"
        assert there not in STRANGERS.get(here, ()), f"{module} imports {other}"


@pytest.mark.parametrize("module", [m for m in MODULES if package_of(m) in LIGHT and m not in WORKERS])
def test_the_controller_reaches_nothing_heavy(module):
    # `tokenizers` is imported by the function that trains a BPE, once, when data is prepared.
    for reached in closure(module) - {"data.encode"}:
        assert not imports(reached)[1] & HEAVY, f"{module} reaches {reached}, which imports something heavy"


def test_the_launcher_stands_on_the_controller_alone():
    tree = ast.parse(LAUNCHER.read_text())
    named = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    ours = {name.split(".")[1] for name in named if name.startswith("bench.")}
    assert "sweep" in ours and ours <= {*LIGHT, "tying"}


def test_the_worker_is_named_and_not_imported():
    assert {"training.train", "training.cost"} & closure("__main__") == set()


@pytest.mark.parametrize(
    "module",
    ["bench.__main__", "bench.measure", "bench.tables", "bench.status", "bench.compare", "bench.plan"]
    + ["hydra_plugins.bench_launcher"],
)
def test_what_a_user_starts_loads_nothing_heavy(module):
    names = sorted(HEAVY | {"datasets", "sklearn"})
    code = f"import sys, {module}; print([n for n in {names} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_a_subject_with_a_name(module):
    path = MODULES[module]
    assert len(path.read_text().splitlines()) <= LONGEST
    assert path.stem not in NAMELESS
