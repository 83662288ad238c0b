"""Every command of the suite: what it says to a wrong command line, to a reader that leaves, and to Ctrl-C."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from bench import COMMANDS as SHORT
from bench.runs.command_line import framed
from bench.tying.errors import BadInput

ROOT = Path(__file__).parents[2]
STARTS = '\nif __name__ == "__main__":\n'
NAMES = {f"bench/{file}": name for name, file in SHORT.items()}
FILES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "bench").rglob("*.py") if STARTS in path.read_text()
)
COMMANDS = [NAMES.get(file, file.removesuffix(".py").replace("/", ".")) for file in FILES]
HYDRA = ("bench.__main__", "bench.measure")
"""Their words are Hydra's: tests/test_command_line.py and tests/sweep/test_measure_command.py."""

every_command = pytest.mark.parametrize("name", [name for name in COMMANDS if name not in HYDRA])


def call(name: str, *words: str) -> int:
    return importlib.import_module(name).main(list(words))


def test_every_command_stands_in_the_frame():
    assert len(COMMANDS) == 16
    for name in COMMANDS:
        assert hasattr(importlib.import_module(name).main, "__wrapped__"), f"{name}.main is not framed"


@every_command
@pytest.mark.parametrize(
    "words",
    [
        ["--no-such-option"],
        ["one", "two", "three", "four"],
        ["--results"],
        ["--sweep"],
        ["--only"],
        ["--out"],
        ["--runs=", "--threshold"],
        [""],
        ["--out="],
        ["--results", ""],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line_with_code_2(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(name, *words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert f"`python -m {name.removesuffix('.__main__')} --help` lists what is allowed" in shown.err
    assert list(tmp_path.iterdir()) == []


@every_command
def test_help_names_the_command_and_every_option(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        call(name, "--help")
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m {name.removesuffix('.__main__')} ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput("this is\nwrong"), 2, "error: this is wrong"),
        (
            FileNotFoundError(2, "No such file", "there"),
            2,
            "error: cannot use there: No such file; choose a path",
        ),
        (KeyboardInterrupt(), 130, "interrupted: what is recorded is kept"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ends_a_command_is_one_line_and_a_code(error, code, line, capsys):
    @framed
    def main():
        raise error

    assert main() == code
    shown = capsys.readouterr().err
    assert shown.startswith(line) and shown.count("\n") == 1


@pytest.mark.parametrize("code", [None, 0, 1])
def test_a_command_returns_its_code(code):
    assert framed(lambda: code)() == (code or 0)


def test_a_traceback_is_shown_where_it_is_asked_for(monkeypatch):
    @framed
    def main():
        raise BadInput("wrong")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(BadInput, match="wrong"):
        main()


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        framed(lambda: 1 / 0)()


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from bench.runs.command_line import framed; import sys; sys.exit(framed(lambda: print('x' * 10**6))())"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0
