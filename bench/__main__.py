"""The command line: `python -m bench [overrides]` for one run, `-m` for a sweep. Imports no torch."""

import os
import re
import signal
import sys
import threading
from collections.abc import Sequence

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from bench.runs import machine
from bench.runs.command_line import TRACEBACK, framed, refuse
from bench.runs.process import stop_all
from bench.sweep.sweep import RunFailed, control, unfinished
from bench.tying.errors import BadInput

ENDS = (BadInput, RunFailed, OmegaConfBaseException, YAMLError, OSError)
NO_CHOICE, HUGE = "Config group override must be a string or a list", "for integer string conversion"
"""What Hydra raises, as a plain ValueError, for `start=null` and `tying=1`, and Python for a number of 5,000 digits."""
OPTUNA = "hydra-optuna-sweeper==1.3.0 optuna==2.10.1 'SQLAlchemy<2' 'alembic<1.14'"
_ended: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(machine.CONF), config_name="config")
def app(cfg: DictConfig) -> float | None:
    try:
        return control(cfg)
    except ENDS as error:
        _ended.append(error)  # raised through Hydra it would come out as two lines
        return None


@framed
def main() -> int:
    """Do what the words ask for. Returns the exit code: 0 done, 1 a run failed; BadInput for bad input."""
    os.environ[TRACEBACK] = "1"  # Hydra then raises instead of printing several lines and exiting with 1
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell leaves it for a job in the background
            signal.signal(number, _stop)
    sys.argv[1:] = _with_places(sys.argv[1:])
    try:
        app()
        for error in _ended:
            raise error
    except RunFailed as error:
        return refuse(str(error), code=1)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise BadInput(_reason(error)) from error
    except ValueError as error:
        words = _no_choices(error)
        if words is None:
            raise
        raise BadInput(words) from error
    return refuse("; ".join(unfinished), code=1) if unfinished else 0


def _with_places(words: Sequence[str]) -> list[str]:
    """Return the command line with an override for each folder that is not given and cannot be written to here."""
    given = {word.lstrip("+").partition("=")[0] for word in words}
    moved = {name: path for name, path in machine.moved_places().items() if name not in given}
    if not {"--help", "-h"}.intersection(words):
        machine.note_moved(moved, "{}=FOLDER")
    overrides = [at for at, word in enumerate(words) if "=" in word and not word.startswith("-")]
    first = overrides[0] if overrides else len(words)  # Hydra takes overrides in one piece
    return [*words[:first], *(f"{name}={path}" for name, path in moved.items()), *words[first:]]


def _no_choices(error: ValueError) -> str | None:
    """Say which word of the command line Hydra could not take, in words that it has not; None: it is another fault."""
    if HUGE in str(error):
        return "a number of thousands of digits is not allowed: give a smaller one"
    if NO_CHOICE not in str(error):
        return None
    for word in sys.argv[1:]:
        key, given, value = word.lstrip("+").partition("=")
        folder = machine.CONF / key
        if not given or not folder.is_dir() or all(_is_name(part) for part in value.split(",")):
            continue
        if not key:
            return f"{word} has no key: give key=value, such as seed=1"
        choices = sorted(path.stem for path in folder.glob("*.yaml"))
        one = "none" if "none" in choices else choices[0]
        return (
            f"{word} is not allowed: {key} is a group and its choices are names, such as {key}={one}; "
            f"there are {', '.join(choices)}"
        )
    return "a group was given a number or null: its choices are names, which `python -m bench --help` lists"


def _is_name(text: str) -> bool:
    try:
        return isinstance(safe_load(text), str)
    except YAMLError:  # half of a list
        return True


def _stop(*_: object) -> None:
    """Ask the runs to save where they are, at once: whoever waits for them may hear of an exception after them.

    Further signals change nothing: all that is left is to end, within `launch.GRACE_S`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _go_on_ending)
    threading.Thread(target=stop_all, daemon=True).start()
    raise KeyboardInterrupt


def _go_on_ending(*_: object) -> None:
    """What a second signal meets. Not SIG_IGN, which processes started from here would inherit."""


def _reason(error: Exception) -> str:
    """Return what was wrong, what is allowed and how to fix it, where Hydra or a parser words it otherwise."""
    text = " ".join(str(error).split())
    if isinstance(error, YAMLError):
        return f"a file of conf/ is no yaml: {text}; mend it and start again"
    if "Could not find 'hydra/sweeper/optuna'" in text:
        return (
            f"hydra/sweeper=optuna needs its plugin, which is not installed: .venv/bin/pip install {OPTUNA}"
        )
    if unknown := re.match(r"Could not override '([^']+)'", text):
        from bench.config.schema import near  # here: pydantic takes 50 ms, which `--help` need not wait for

        meant = near(unknown[1])
        return f"unknown key {unknown[1]}: " + (
            f"did you mean {meant}?" if meant else "`python -m bench --help` lists the keys"
        )
    return re.split(" Config search path:| full_key:", text)[0]


if __name__ == "__main__":
    sys.exit(main())
