"""The command line: `python -m bench [overrides]` for one run, `-m` for a sweep. Imports no torch."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from traceback import walk_tb
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.config.help import with_comments
from bench.config.run_config import from_hydra
from bench.runs import machine
from bench.runs.command_line import TRACEBACK, framed, refuse
from bench.runs.process import stop_all
from bench.sweep.sweep import RunFailed, run_one
from bench.tying.errors import BadInput

ENDS = (BadInput, RunFailed, OmegaConfBaseException, YAMLError, OSError)
"""What a run may raise that is told in one line."""


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
        raise BadInput(_reason(error)) from error
    return refuse("; ".join(app.shortfalls), code=1) if app.shortfalls else 0


def _with_places(words: Sequence[str]) -> list[str]:
    """Return the command line with an override for each folder that is not given and cannot be written to here."""
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    moved = {name: path for name, path in machine.moved_places().items() if name not in keys}
    if not {"--help", "-h"}.intersection(words):
        machine.note_moved(moved, "{}=FOLDER")
    indices = [index for index, word in enumerate(words) if "=" in word and not word.startswith("-")]
    first = indices[0] if indices else len(words)  # Hydra takes overrides in one piece
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
        from bench.config.refusals import unknown_flag  # here: pydantic takes 50 ms, as in `_reason`

        flag = next((word for word in message.split() if word.startswith("--")), "")
        advice = flag and unknown_flag(flag, flags._option_string_actions)
        if not flag and message.startswith("unrecognized") and "=" in message:
            advice = "give all key=value in one piece, with no flag between them"
        raise BadInput(f"{message}; {advice or '`python -m bench --help` lists what there is'}")

    flags = get_args_parser()
    flags.error = refuse_flags
    flags.parse_args()


def _is_raised_in_hydra(error: ValueError) -> bool:
    """Tell whether Hydra, which raises plain ValueErrors for words that it cannot take, raised this one."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("hydra.")


def _reason(error: Exception) -> str:
    from bench.config.refusals import of_hydra  # here: pydantic takes 50 ms, which `--help` need not wait for

    return of_hydra(error, sys.argv[1:])


def _stop(*_: object) -> None:
    """Ask the runs to save where they are, at once: whoever waits for them may hear of an exception after them.

    Further signals change nothing: all that is left is to end, within `process.GRACE_S`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _go_on_ending)
    threading.Thread(target=stop_all, daemon=True).start()
    raise KeyboardInterrupt


def _go_on_ending(*_: object) -> None:
    """Do nothing at a second signal. Not SIG_IGN, which processes started from here would inherit."""


if __name__ == "__main__":
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends it twice hears the code of the first
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
