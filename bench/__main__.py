"""The command line: `python -m bench [overrides]` for one run, `-m` for a sweep. Imports no torch."""

import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from traceback import walk_tb
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from bench.config.help import with_comments
from bench.config.run_config import from_hydra
from bench.runs import machine
from bench.runs.command_line import TRACEBACK, did_you_mean, framed, refuse
from bench.runs.process import stop_all
from bench.sweep.sweep import RunFailed, run_one
from bench.tying.errors import BadInput

ENDS = (BadInput, RunFailed, OmegaConfBaseException, YAMLError, OSError)
"""What a run may raise that is told in one line."""
NO_CHOICE, HUGE = "Config group override must be a string or a list", "for integer string conversion"
"""What Hydra raises, as a plain ValueError, for `start=null` and `tying=1`, and Python for a number of 5,000 digits."""
OPTUNA = "hydra-optuna-sweeper==1.3.0 optuna==2.10.1 'SQLAlchemy<2' 'alembic<1.14'"


class App:
    """Hydra's task function: it does one run. Launchers have it too, and do the cells of a sweep.

    error: What ended the run; raised through Hydra it would come out as two lines.
    shortfalls: What sweeps left undone, a line each. A search launches several, and none must end it.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.shortfalls: list[str] = []

    def __call__(self, cfg: DictConfig) -> float | None:
        try:
            return run_one(from_hydra(cfg, HydraConfig.get().overrides.task))
        except ENDS as error:
            self.error = error
            return None


@framed
def main() -> int:
    """Do what the command line asks for.

    Returns:
        The exit code: 0 done, 1 a run failed.

    Raises:
        BadInput: The command line asks for what is not allowed.
    """
    os.environ[TRACEBACK] = "1"  # Hydra then raises instead of printing several lines and exiting with 1
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell leaves it for a job in the background
            signal.signal(number, _stop)
    sys.argv[1:] = _with_places(sys.argv[1:])
    _check_flags()
    app = App()
    asks_for_help = bool({"--help", "-h"}.intersection(sys.argv[1:]))
    try:
        with _commented() if asks_for_help else contextlib.nullcontext():
            hydra.main(version_base="1.3", config_path=str(machine.CONF), config_name="config")(app)()
        if app.error is not None:
            raise app.error
    except RunFailed as error:
        return refuse(str(error), code=1)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise BadInput(_reason(error)) from error
    except ValueError as error:
        if not _is_raised_in_hydra(error):
            raise
        raise BadInput(_reason_of_value(error)) from error
    return refuse("; ".join(app.shortfalls), code=1) if app.shortfalls else 0


def _with_places(words: Sequence[str]) -> list[str]:
    """Return the command line with an override for each folder that is not given and cannot be written to here."""
    given = {word.lstrip("+").partition("=")[0] for word in words}
    moved = {name: path for name, path in machine.moved_places().items() if name not in given}
    if not {"--help", "-h"}.intersection(words):
        machine.note_moved(moved, "{}=FOLDER")
    overrides = [at for at, word in enumerate(words) if "=" in word and not word.startswith("-")]
    first = overrides[0] if overrides else len(words)  # Hydra takes overrides in one piece
    return [*words[:first], *(f"{name}={path}" for name, path in moved.items()), *words[first:]]


@contextlib.contextmanager
def _commented() -> Iterator[None]:
    """Print the help that Hydra prints inside with the comments of conf/. Hydra then exits."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        print(with_comments(printed.getvalue(), machine.CONF))


def _check_flags() -> None:
    """Refuse flags that Hydra does not know, in one line: its parser prints its whole usage before that."""

    def refuse_flags(message: str) -> NoReturn:
        advice = "`python -m bench --help` lists what there is"
        wrong = re.match(r"unrecognized arguments: ((-*)([\w/.]+)\S*)", message)
        if wrong and wrong[2]:
            advice = did_you_mean(f"{wrong[2]}{wrong[3]}", re.findall(r"--[\w-]+", flags.format_usage()), "")
            advice = advice or (
                f"did you mean {meant}=...?"
                if (meant := _meant(wrong[3]))
                else "`python -m bench --help` lists what there is"
            )
        elif wrong and "=" in wrong[1]:
            advice = "give all key=value in one piece, with no flag between them"
        raise BadInput(f"{message}; {advice}")

    flags = get_args_parser()
    flags.error = refuse_flags
    flags.parse_args()


def _is_raised_in_hydra(error: ValueError) -> bool:
    """Tell whether Hydra, which raises plain ValueErrors for words that it cannot take, raised this one."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("hydra.")


def _reason_of_value(error: ValueError) -> str:
    if HUGE in str(error):
        return "a number of thousands of digits is not allowed: give a smaller one"
    if NO_CHOICE not in str(error):
        return str(error)
    for word in sys.argv[1:]:
        key, given, value = word.lstrip("+").partition("=")
        if given and not key:
            return f"{word} has no key: give key=value, such as seed=1"
        if given and not all(map(_is_name, value.split(","))) and (choices := _choices(key)):
            return f"{word} is not allowed: {choices}"
    return "a group was given a number or null: its choices are names, which `python -m bench --help` lists"


def _meant(key: str) -> str | None:
    from bench.config.refusals import near  # here: pydantic takes 50 ms, which `--help` need not wait for

    return near(key)


def _choices(key: str) -> str | None:
    """Say which choices a group has; None where `key` is no group."""
    names = sorted(path.stem for path in (machine.CONF / key).glob("*.yaml"))
    if not names:
        return None
    example = "none" if "none" in names else names[0]
    return (
        f"{key} is a group and its choices are names, such as {key}={example}; there are {', '.join(names)}"
    )


def _is_name(text: str) -> bool:
    try:
        return isinstance(safe_load(text), str)
    except YAMLError:  # half of a list
        return True


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
        if choices := _choices(unknown[1]):
            return f"{unknown[1]} cannot be set like this: {choices}"
        meant = _meant(unknown[1])
        return f"unknown key {unknown[1]}: " + (
            f"did you mean {meant}?" if meant else "`python -m bench --help` lists the keys"
        )
    if isinstance(error, OverrideParseException) or "LexerNoViableAlt" in text:
        where = re.split(r" \^$| expecting \{| See https://hydra.cc", text)[0]
        return (
            f"{where}: this is no key=value; write it as seed=1, several as seed=1,2 after -m, and put a value with "
            "other signs in quotes, as 'sweep.note=\"two words\"'"
        )
    if absent := re.search(
        r"Could not find '(?:[^']*/)?([^'/]+)' (Available options in '[^']+': (.*?))(?: Config search| full_key|$)",
        text,
    ):
        return text[: absent.start(2) - 1] + ": " + did_you_mean(absent[1], absent[3].split(), absent[2])
    return re.split(" Config search path:| full_key:| See https://hydra.cc", text)[0]


def _stop(*_: object) -> None:
    """Ask the runs to save where they are, at once: whoever waits for them may hear of an exception after them.

    Further signals change nothing: all that is left is to end, within `process.GRACE_S`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _go_on_ending)
    threading.Thread(target=stop_all, daemon=True).start()
    raise KeyboardInterrupt


def _go_on_ending(*_: object) -> None:
    """What a second signal meets. Not SIG_IGN, which processes started from here would inherit."""


if __name__ == "__main__":
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends it twice hears the code of the first
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
