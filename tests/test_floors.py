"""Who may import whom: the table below is the house, and a new module must be given its place in it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"

# From the ground up. A module imports from lower floors alone; inside a place (a folder) as it likes.
FLOORS = (
    ("errors", "owner", "code_fingerprint"),
    ("tying_spec",),
    ("anatomy", "command"),
    ("metrics", "stats", "records", "tying", "machine", "adamw", "cross_entropy"),
    ("quantize",),
    ("models", "data", "measure", "claim", "ranks", "report", "saving", "similarity"),
    ("worker", "schema"),
    ("fitting",),
    ("training", "forecasting", "cell", "launch", "plots", "states"),
    ("assembly", "journal", "use_curves", "int8", "checkpoint", "tracking", "lr_search", "ensure")
    + ("inherit", "learned", "manifest", "outcome")
    + ("progress", "status", "webpage"),
    ("controls", "likeness", "lightning_compat"),
    ("run", "cost", "engines", "tables", "compose"),
    ("sweep", "dry_run", "cost_report"),
    ("__main__", "perf", "ledger", "compare", "mirror", "audit"),
)
FLOOR = {place: height for height, floor in enumerate(FLOORS) for place in floor}

# What the user starts: it names the worker's modules and never imports them, nor what is heavy.
LIGHT = {
    "errors",
    "command",
    "metrics",
    "records",
    "machine",
    "schema",
    "worker",
    "report",
    "cell",
    "launch",
    "plots",
}
LIGHT |= {"stats", "compare", "lr_search", "progress", "sweep", "tables", "webpage", "__main__"}
LIGHT |= {"learned", "manifest", "outcome", "tying_spec"}
LIGHT |= {
    "learned",
    "manifest",
    "owner",
    "claim",
    "states",
    "status",
    "dry_run",
    "compose",
    "engines",
    "ensure",
    "cost_report",
    "code_fingerprint",
}
LIGHT_DATA = {"data.prepare"}
HEAVY = {"torch", "lightning", "transformers", "torchvision", "wandb", "tokenizers"}

# Floors that stand side by side, and must not know of each other although one is the lower.
STRANGERS = {
    "status": {"data", "launch", "lr_search"},
    "engines": {"data", "training"},
    "dry_run": {"data", "launch"},
    "compose": {"data", "launch"},
    "models": {"tying", "quantize", "records", "metrics", "machine", "adamw", "cross_entropy"},
    "data": {"tying", "quantize", "records", "metrics", "machine", "adamw", "cross_entropy"},
    "measure": {
        "owner",
        "metrics",
        "records",
        "tying",
        "quantize",
        "machine",
        "adamw",
        "cross_entropy",
    },
    "fitting": {"models", "data", "measure"},
    "training": {"models", "data", "measure"},
    "forecasting": {"models", "data", "measure"},
    "report": {"tying", "quantize", "machine"},
    "tables": {"cell", "worker", "data", "launch"},
    "plots": {"cell", "worker", "data", "launch"},
    "webpage": {"cell", "worker", "data", "launch", "plots"},
}


def module_of(path: Path) -> str:
    """bench/tying/plan.py -> tying.plan"""
    return ".".join(path.relative_to(BENCH).with_suffix("").parts).removesuffix(".__init__")


LAUNCHER = (
    BENCH.parent / "hydra_plugins" / "bench_launcher.py"
)  # where Hydra finds it; it stands above `sweep`
MODULES = {module_of(path): path for path in sorted(BENCH.rglob("*.py")) if path != BENCH / "__init__.py"}


def place_of(module: str) -> str:
    """A folder; but a command that stands in one, such as measure.__main__, is on the top floor."""
    return "__main__" if module == "measure.__main__" else module.split(".")[0]


def imports(module: str, lazy: bool = True) -> tuple[set[str], set[str]]:
    """Modules of bench, and other packages, that `module` imports (lazy: inside functions too)."""
    tree = ast.parse(MODULES[module].read_text())
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
                waiting.append(current.split(".")[0])
    return seen


def test_every_module_has_its_place():
    assert {place_of(module) for module in MODULES} == set(FLOOR)
    assert sum(map(len, FLOORS)) == len(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    here = place_of(module)
    for other in imports(module)[0]:
        there = place_of(other)
        assert there == here or FLOOR[there] < FLOOR[here], f"{module} imports {other}"
        assert there not in STRANGERS.get(here, ()), f"{module} imports {other}"


@pytest.mark.parametrize("module", [m for m in MODULES if place_of(m) in LIGHT] + sorted(LIGHT_DATA))
def test_the_controller_reaches_nothing_heavy(module):
    for reached in closure(module):
        assert place_of(reached) in LIGHT | {"data"} or reached == "measure", f"{module} reaches {reached}"
    # `tokenizers` is imported by the function that trains a BPE, once, when data is prepared.
    for reached in closure(module) - {"data.tokenization"}:
        assert not imports(reached)[1] & HEAVY, f"{module} reaches {reached}, which imports something heavy"


def test_the_launcher_stands_on_the_controller_alone():
    tree = ast.parse(LAUNCHER.read_text())
    named = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    ours = {name.split(".")[1] for name in named if name.startswith("bench.")}
    assert "sweep" in ours and ours <= LIGHT


def test_the_worker_is_named_and_not_imported():
    assert {"run", "cost"} & closure("__main__") == set()


@pytest.mark.parametrize(
    "module",
    ["bench.__main__", "bench.measure.__main__", "bench.tables", "bench.status", "bench.compare.__main__"]
    + ["hydra_plugins.bench_launcher"],
)
def test_what_a_user_starts_loads_nothing_heavy(module):
    names = sorted(HEAVY | {"datasets", "sklearn"})
    code = f"import sys, {module}; print([n for n in {names} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short_and_say_what_they_are(module):
    path = MODULES[module]
    assert len(path.read_text().splitlines()) <= 600
    assert path.stem not in ("utils", "util", "helpers", "helper", "misc", "common", "base", "core")
