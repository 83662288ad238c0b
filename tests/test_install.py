"""The wheel: what is in it, and that its commands work from any folder without the checkout. Nothing is downloaded."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import _with_places
from bench.runs import command_line, machine

ROOT = Path(__file__).parents[1]
SWEEP = "claim_c19"
"""A committed sweep, of few records."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in paths}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation leaves in site-packages, in a repository of somebody else's."""
    repository = tmp_path_factory.mktemp("theirs")
    git = ["git", "-C", str(repository), "-c", "user.name=they", "-c", "user.email=they@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "theirs"], check=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(repository / "site-packages")
    return repository / "site-packages"


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    """Runs Python with words, in an empty folder, with the wheel and without the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "HYDRA_"))}
    env = {**kept, "PYTHONPATH": str(site), "XDG_DATA_HOME": str(tmp_path / "data")}
    (tmp_path / "empty").mkdir()

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path / "empty", env=env, capture_output=True, text=True)

    return call


def test_the_wheel_holds_code_configuration_and_templates_and_nothing_else(wheel: Path) -> None:
    expected = files_below(ROOT / "bench") | files_below(ROOT / "hydra_plugins")
    expected |= {f"bench/{name}" for name in files_below(ROOT / "conf")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {Path(name).suffix for name in held} >= {".py", ".yaml", ".j2", ".css", ".js"}


def test_its_command_is_the_one_that_is_documented(wheel: Path, run: Run) -> None:
    archive = zipfile.ZipFile(wheel)
    (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert archive.read(entries).decode().split() == [
        "[console_scripts]",
        "tying-bench",
        "=",
        "bench:command",
    ]
    script = "import sys; from bench import command; sys.exit(command())"
    as_script, as_module = run("-c", script, "--help"), run("-m", "bench", "--help")
    assert as_script.returncode == as_module.returncode == 0, as_script.stderr
    assert as_script.stdout == as_module.stdout
    assert "\ntying:\n  albert " in as_script.stdout
    refused = run("-c", script, "tying=no_such")
    assert refused.returncode == 2 and refused.stderr.startswith("error: ")


def test_nothing_comes_from_the_checkout(site: Path, run: Run) -> None:
    names = "import bench, hydra_plugins.bench_launcher as plugin; from bench.runs.machine import CONF"
    printed = run("-c", f"{names}; print(bench.__file__, plugin.__file__, CONF, sep='\\n')")
    assert printed.returncode == 0, printed.stderr
    assert all(Path(line).is_relative_to(site) for line in printed.stdout.splitlines())


def test_a_dry_run_works_from_any_folder(run: Run, tmp_path: Path) -> None:
    words = ["task=image_cnn", "tying=none,cross_layer", "sweep=smoke", "hydra/launcher=dry_run"]
    done = run("-m", "bench", "-m", *words)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "image_cnn cross_layer" in done.stdout
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == [".cache"]


def test_tables_are_made_from_a_committed_archive(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "empty" / "results" / SWEEP
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "results" / SWEEP / "records.jsonl.gz", folder)
    shutil.copy(ROOT / "results" / "claims.json", folder.parent)
    done = run("-m", "bench.tables", "--sweep", SWEEP)
    assert done.returncode == 0, done.stderr
    assert (folder / "summary.md").read_bytes() == (ROOT / "results" / SWEEP / "summary.md").read_bytes()
    assert "<script>" in (folder / "index.html").read_text()


COMMANDS = ["status", "compare", "measure", "claims", "audit", "perf", "mirror"]
HELP = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv[:] = [name, "--help"]
    try:
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print("exit code", name, end.code)
"""
"""`python -m bench.NAME --help` of every name in one process: each would import the same anew."""


def test_every_other_command_is_there(run: Run) -> None:
    shown = run("-c", HELP, *COMMANDS)
    assert shown.returncode == 0, shown.stderr
    for command in COMMANDS:
        assert f"python -m bench.{command}" in shown.stdout and f"exit code {command} 0\n" in shown.stdout


def test_the_commit_of_somebody_elses_repository_is_not_ours(run: Run) -> None:
    printed = run("-c", "from bench.runs.machine import provenance as p; print(p()['commit'], p()['dirty'])")
    assert printed.stdout == "None None\n", printed.stderr
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
        assert machine.provenance()["commit"] == head.stdout.strip() != ""


LOCKED = "import os, sys; os.access = lambda *_, **__: False; from bench import command; sys.exit(command())"
"""The command in a folder that cannot be written to: root, who runs some tests, may write to any."""


def test_where_nothing_can_be_written_the_users_data_folder_is_used_and_named(
    run: Run, tmp_path: Path
) -> None:
    words = ["task=image_cnn", "tying=none", "hydra/launcher=dry_run", f"runs={tmp_path / 'mine'}"]
    done = run("-c", LOCKED, "-m", *words)
    data = tmp_path / "data" / "tying-bench"
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"note: {tmp_path / 'empty'} is not writable: results in {data / 'results'}, cache in {data / 'cache'}; "
        "results=FOLDER cache=FOLDER changes that\n"
    )
    assert list((tmp_path / "empty").iterdir()) == [] and any((data / "cache").iterdir())
    assert run("-c", LOCKED, "--help").stderr == ""


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which cannot be written to; all others can. Returns the user's data folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(machine.os, "access", lambda path, mode: Path(path) != Path())
    return tmp_path / "data" / "tying-bench"


def test_a_folder_that_is_there_and_can_be_written_to_is_used(locked: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert machine.moved_places() == {"results": str(locked / "results"), "cache": str(locked / "cache")}


@pytest.mark.parametrize(
    "words", [["a=1", "b=2"], ["-m", "a=1"], ["--config-dir", "d", "a=1"], ["~a", "b=1"], ["-m"], []]
)
def test_overrides_stay_in_one_piece(words: list[str], locked: Path) -> None:
    placed = _with_places(words)
    added = [word for word in placed if word not in words]
    assert [word.partition("=")[0] for word in added] == list(machine.PLACES)
    assert [word for word in placed if word in words] == words
    at = [at for at, word in enumerate(placed) if "=" in word]
    assert at == list(range(at[0], at[-1] + 1))
    assert _with_places([*words, *added]) == [*words, *added]  # what is given stays


def test_other_commands_say_so_too_unless_they_are_told_where(
    locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = command_line.parser("bench.any", "")
    command_line.add_places(options, runs="of the records", results="to write to")
    assert options.parse_args([]).runs == str(locked / "runs")
    assert capsys.readouterr().err.endswith("; --runs FOLDER --results FOLDER changes that\n")
    assert options.parse_args(["--runs", "a", "--results", "b"]).runs == "a"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("version", "words"), [("Python 3.10.9", "is Python 3.10.9"), (None, "is not there")]
)
def test_make_says_in_one_line_which_python_it_needs(version: str | None, words: str, tmp_path: Path) -> None:
    old = tmp_path / "python"
    if version:
        old.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {version} && exit\nexit 1\n')
        old.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.count("\n") == 1 and f"Python 3.11 or newer is needed, and {old} {words}" in done.stderr
    )
    assert not (tmp_path / "venv").exists()
