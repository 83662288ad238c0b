"""The command line: `python -m bench [overrides]` for one run, `-m` for a sweep. Imports no torch."""

import os
import re
import signal
import sys
import threading

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench import machine
from bench.command import TRACEBACK, framed, refuse
from bench.errors import BadInput
from bench.launch import stop_all
from bench.sweep import RunFailed, control, unfinished

ENDS = (BadInput, RunFailed, OmegaConfBaseException, YAMLError, OSError)
NULLED = "Config group override must be a string or a list. Got NoneType"
"""What Hydra raises, as a plain ValueError, for `start=null`."""
OPTUNA = "hydra-optuna-sweeper==1.3.0 optuna==2.10.1 'SQLAlchemy<2' 'alembic<1.14'"
_ended: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(machine.REPOSITORY / "conf"), config_name="config")
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
    try:
        app()
        for error in _ended:
            raise error
    except RunFailed as error:
        return refuse(str(error), code=1)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise BadInput(_reason(error)) from error
    except ValueError as error:
        if NULLED not in str(error):
            raise
        raise BadInput("a group has no choice null: that of start is start=none") from error
    return refuse("; ".join(unfinished), code=1) if unfinished else 0


def _stop(*_: object) -> None:
    """Ask the runs to save where they are, at once: whoever waits for them may hear of an exception after them."""
    threading.Thread(target=stop_all, daemon=True).start()
    raise KeyboardInterrupt


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
        return f"unknown key {unknown[1]}: `python -m bench --help` lists the keys"
    return re.split(" Config search path:| full_key:", text)[0]


if __name__ == "__main__":
    sys.exit(main())
