"""Every command of the README and of docs/ runs: as it stands where that is quick, else cut down to a few steps."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from datetime import date, timedelta
from pathlib import Path

import forked
import numpy as np
import point_maker
import pytest
import yaml
from packaging.requirements import Requirement

from bench.analysis.points import as_csv
from bench.report.tables import build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
PROGRAMS = re.findall(r"```python\n(?!# DIR/)(.*?)```", TEXT, re.S)  # a file of one's own is no program
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
COMMANDS = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines()))

CUT = [
    "model.width=16",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_eval_batches=1",
    "measure.min_calls=1",
    "measure.min_seconds=0",
    "measure.cold=false",
    "logger=csv",
]
"""W&B has tests of its own, and `test_sync_finds_what_the_runs_left`."""
UNMEASURED = "measure.max_seconds=0"
"""A cost takes longer than such a run: `make sweep` measures its own, and no other command that does not name them."""
FEW_POINTS = "sweep.points=1"
"""Of a designed experiment: each is many runs, and each is composed."""
SHORT = "task.batches.window=4"
"""The meters of memory look at each operation, of a GRU so many times as a window has tokens."""
GRID = {
    "task": "text_gru",
    "tying": "none",
    "control": "null",
    "seed": "1",
    "dropout": "0",
    "weight_decay": "0",
}
"""What the axes of a named sweep are cut to; what the README spells out on the line stays as it is."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for everything that the commands write; in it a small Fashion-MNIST as on the hub, and own files."""
    folder = tmp_path_factory.mktemp("readme")
    write_own_files(folder / "data")
    write_fashion_mnist(folder / "data" / "fashion_mnist" / "fashion_mnist")
    return folder


def write_fashion_mnist(folder: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image

    folder.mkdir(parents=True)
    files = "".join(f"  - {{split: {s}, path: fashion_mnist/{s}-*}}\n" for s in ("train", "test"))
    card = f"---\nconfigs:\n- config_name: fashion_mnist\n  data_files:\n{files}---\n"
    (folder.parent / "README.md").write_text(card)
    features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
    for split, count in (("train", 5600), ("test", 20)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        rows = {"image": list(pixels), "label": [i % 10 for i in range(count)]}
        Dataset.from_dict(rows, features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def write_own_files(root: Path) -> None:
    """Write what the README says that users have: a folder of pictures, and two CSVs."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(200):
        folder = root / "my_images" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    days = [date(2020, 1, 1) + timedelta(days=number) for number in range(600)]
    tables = {
        "my_texts": "text,label\n"
        + "".join(f"the {n % 7} is {n}, {('bad', 'good')[n % 2]}\n" for n in range(200)),
        "my_sales": "day,sold\n" + "".join(f"{day:%d.%m.%Y},{100 + day.day}\n" for day in days),
    }
    for name, text in tables.items():
        (root / name).mkdir()
        (root / name / "train.csv").write_text(text)


def tied_model(path: Path) -> Path:
    """What the README's program leaves."""
    from pretrained import made

    from bench.tying import cycle
    from bench.tying.checkpoint import save

    model = made("llama")
    plan = cycle(model, groups=2)
    plan.apply(model)
    save(model, plan, path)
    return path


def run(command: list[str], places: Path) -> subprocess.CompletedProcess[str]:
    # `make test ARGS=...` exports its own variables to what it starts; a user's shell has none of them.
    inherited = ("WANDB_", "MAKE", "MFLAGS", "ARGS", "SWEEP", "RUNS")
    env = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    env |= {"BENCH_DATA_ROOT": str(places / "data"), "TMPDIR": str(places), "OMP_NUM_THREADS": "1"}
    command = [part.replace("$BENCH_DATA_ROOT", env["BENCH_DATA_ROOT"]) for part in command]
    if command[0] == sys.executable and program(command) in started_as_by_a_user:
        return forked.run(command, ROOT, env, timeout=600)
    started_as_by_a_user.add(program(command))
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


started_as_by_a_user = {"bench", "bench -m"}
"""Programs that a new interpreter has run once, the first two in tests/test_command_line.py: after that they are spared
the imports."""


def program(command: list[str]) -> str:
    """`bench`, `bench -m`, `bench.tables`, ..."""
    return " ".join(command[2:4]) if command[2:4] == ["bench", "-m"] else command[2]


def spelled_out(command: str, places: Path) -> str:
    """What `make` would run, less the making of the environment."""
    if not command.startswith("make"):
        return command
    shown = run(["make", "-n", *shlex.split(command)[1:]], places)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    return next((line for line in lines if line.startswith(".venv/bin/python -m bench")), command)


def grid_cut(words: list[str]) -> list[str]:
    """Overrides that cut the axes of the sweep that is named among them, and no other."""
    said = dict(word.split("=", 1) for word in words if "=" in word)
    if "sweep" not in said:
        return []
    preset = yaml.safe_load((ROOT / "conf" / "sweep" / f"{said['sweep']}.yaml").read_text())
    axes = preset["hydra"]["sweeper"].get("params", {})  # a design has none
    return [f"{axis}={value}" for axis, value in GRID.items() if axis in axes and axis not in said]


NEEDS = {"launcher=slurm": "submitit", "launcher=ray": "ray", "sweep=search": "optuna"}
"""What is not in the environment that `make` makes, by the word that asks for it."""


def skip_without(command: str) -> None:
    for word, module in NEEDS.items():
        if word in command.lower() and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if "launcher=slurm" in command and subprocess.run(["which", "sinfo"], capture_output=True).returncode:
        pytest.skip("there is no SLURM here (its own test starts one: tests/sweep/test_slurm.py)")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, places: Path) -> None:
    skip_without(command)
    words = shlex.split(spelled_out(command, places))
    if words[0] == ".venv/bin/pip":  # it is not run, but what it installs is what pyproject.toml allows
        assert words[1] == "install" and words[2:]
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        allowed = {r.name: r.specifier for part in extras.values() for r in map(Requirement, part)}
        for asked in map(Requirement, words[2:]):
            pins = [each.version for each in asked.specifier if each.operator == "=="]
            assert asked.specifier == allowed[asked.name] or (pins and pins[0] in allowed[asked.name])
        return
    if words[0] == "pip":  # what it leaves is tested in tests/test_install.py
        assert words == ["pip", "install", "."]
        return
    if words[0] == "tying-bench":
        words[:1] = [sys.executable, "-m", "bench"]
    if words[0] == "make":
        if words[1] not in ("test", "selftest"):  # which are what is running; `make -n` has accepted them
            ready = [f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready", f"RUNS={places / 'runs'}"]
            assert run([*words, *ready], places).returncode == 0
        return
    words[0] = sys.executable
    folders = [str(places / "runs"), str(places / "results")]
    if words[-2:] == ["--sweep", "quick"]:  # tables of a committed sweep, and what reads them
        shutil.copytree(ROOT / "results" / "quick", places / "made" / "quick", dirs_exist_ok=True)
        build(places / "none", places / "made", ["quick"], out=lambda text: None)
        words += ["--runs", folders[0], "--results", str(places / "made")]
    elif "bench.tables" in words:
        words += ["--runs", folders[0], "--results", folders[1]]
    elif "bench.claims" in words:
        words[words.index("--runs") + 1] = folders[0]
        words += ["--results", folders[1]]
    elif "bench.map" in words:
        words[words.index("--runs") + 1] = folders[0]
        shutil.copytree(ROOT / "results" / "quick", places / "recorded" / "quick", dirs_exist_ok=True)
        words += ["--results", str(places / "recorded"), "--only", "points"]
    elif "bench.advise" in words:
        (places / "mapped" / "map").mkdir(parents=True, exist_ok=True)
        (places / "mapped" / "map" / "points.csv").write_text(as_csv(point_maker.measurements(30)))
        words += ["--results", str(places / "mapped")]
    elif "bench.audit" in words:
        words[words.index("tied.safetensors")] = str(tied_model(places / "tied.safetensors"))
        if "--out" in words:
            words[words.index("--out") + 1] = str(places / "audit")
    elif "bench.perf" in words:
        words += ["--quick", "--only", "output", "--out", str(places)]
    elif "bench.status" in words:
        words[words.index("--runs") + 1] = folders[0]
    elif "--help" not in words and "bench.compare" not in words:
        said = {word.split("=", 1)[0] for word in words}
        words += [word for word in CUT if word.split("=", 1)[0] not in said]
        words += [SHORT] if command == "make sweep" or "bench.measure" in words else [UNMEASURED]
        words += [FEW_POINTS] if "sweep=map" in words else []
        words += [*grid_cut(words), f"runs={folders[0]}", f"results={folders[1]}"]
    done = run(words, places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stderr


def test_sync_finds_what_the_runs_left(places: Path) -> None:
    """`wandb sync` accepts the options that the Makefile gives it, and sees an offline run as one."""
    run([sys.executable, "-m", "bench", *CUT, "logger=wandb", f"runs={places / 'synced'}"], places)
    ready = [f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready", f"RUNS={places / 'synced'}"]
    done = run(["make", "sync", "ARGS=--dry-run", *ready], places)
    assert "Would sync 1 run" in done.stdout + done.stderr
    none = run(["make", "sync", *ready[:3], f"RUNS={places / 'empty'}"], places)
    assert "no offline run" in none.stdout


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:bench|conf|tests|hydra_plugins)/[\w./]*)`", TEXT)))
)
def test_paths_are_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_map_names_each_package_once() -> None:
    table = README.split("| package |", 1)[1].split("\n\n", 1)[0]
    packages = [path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.M)) == sorted(packages)


def test_there_are_commands_to_test() -> None:
    assert len(COMMANDS) >= 15 and HEADLINES


HEADLINES = re.findall(r"<!-- headline: (\S+) -->\n(.*?)<!-- /headline -->", TEXT, re.S)


@pytest.mark.parametrize(("source", "quoted"), HEADLINES, ids=[source for source, _ in HEADLINES])
def test_headline_is_the_committed_table(source: str, quoted: str) -> None:
    """What the README quotes cannot drift from the table that it names: the first, or that under a heading."""
    file, _, anchor = source.partition("#")
    text = (ROOT / file).read_text()
    if anchor:
        heads = {head[0]: head.end() for head in re.finditer(r"^#+ .*", text, re.M)}
        (start,) = (end for head, end in heads.items() if anchor_of(head.lstrip("# ")) == anchor)
        text = text[start:]
    table = re.search(r"^\|.*?(?=\n\n)", text, re.S | re.M)[0].splitlines()
    assert table and [line for line in quoted.splitlines() if line.startswith("|")] == table
    # GitHub's column is 838 pixels wide, at some eight a character.
    most = 110 if quoted in README else 120
    assert max(len(line) for line in table if "---" not in line) <= most


@pytest.mark.parametrize(
    ("source", "quoted"), re.findall(r"<!-- quoted: (\S+) -->\n(.*?)<!-- /quoted -->", README, re.S)
)
def test_what_is_quoted_is_in_the_page(source: str, quoted: str) -> None:
    lines = (ROOT / source).read_text().splitlines()
    assert quoted.strip() and all(line in lines for line in quoted.splitlines())


def test_figures_in_prose_are_those_of_the_record() -> None:
    """A change as it stands in the page, or turned: "better by 6.9 %" is −6.9 %."""
    answer = README[README.index("## The answer in short") : README.index("## Two commands")]
    prose = re.sub(r"<!-- (headline|quoted): .*?<!-- /\1 -->", "", answer, flags=re.S)
    page = (ROOT / "results" / "trained_out" / "summary.md").read_text().replace("*", "")
    figures = re.findall(r"([−+]?[\d.]+)( %)? \[([−+]?[\d.]+), ([−+]?[\d.]+)\]", prose)
    assert len(figures) >= 8
    for value, unit, low, high in figures:
        as_it_stands, turned = f"{value}{unit} [{low}, {high}]", f"−{value}{unit} [−{high}, −{low}]"
        assert as_it_stands in page or turned in page, as_it_stands


def anchor_of(heading: str) -> str:
    """What GitHub calls a heading in a link."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_and_pictures_are_there(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        heads = re.findall(r"^#+ (.*)", target.read_text(), re.M) if anchor else []
        assert not anchor or anchor in {anchor_of(head) for head in heads}


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) <= 150
    assert all(f"(docs/{page.name})" in README for page in PAGES[1:])


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run_as_they_stand(program: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-m", "program"]
    if program == PROGRAMS[0]:  # in a new interpreter; the others are spared the imports
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    else:
        result = forked.run(command, tmp_path, env, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("weights ")


def test_there_is_a_program() -> None:
    assert PROGRAMS
