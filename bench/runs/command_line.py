"""The frame of every command: its options, and what it says where it fails. Imports no torch."""

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from bench.runs import machine
from bench.tying.errors import BadInput, spelled_like

TRACEBACK = "HYDRA_FULL_ERROR"
"""Variable of Hydra's: with 1 an error comes with its traceback."""


class Parser(argparse.ArgumentParser):
    """Raises BadInput for a wrong command line, where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        advice = f"`{self.prog} --help` lists what is allowed"
        if wrong := re.search(r"invalid choice: '([^']+)' \(choose from (.+)\)", message):
            meant = spelled_like(wrong[1], re.findall(r"[\w-]+", wrong[2]))
            advice = f"did you mean {meant}?" if meant else advice
        raise BadInput(f"{message}: {advice}")

    def parse_args(self, *args: Any, **kwargs: Any) -> argparse.Namespace:
        """Parse, and say where the folders are that `add_places` could not leave in the current folder.

        Raises:
            BadInput: The command line is wrong. An option that is spelled like a known one is told first. An empty word
                is refused: as a folder it would be the current one.
        """
        options = self._option_string_actions
        words = args[0] if args and args[0] is not None else sys.argv[1:]
        for before, word in zip(("", *words), words, strict=False):
            option = word.partition("=")[0]
            is_known = not option.startswith("--") or any(name.startswith(option) for name in options)
            alike = [known for known in options if known[2:3] == option[2:3]]  # --out is no slip for --count
            if not is_known and (meant := spelled_like(option, alike)):
                raise BadInput(f"unknown option {option}: did you mean {meant}?")
            if not word.strip() or (word.startswith("--") and word.endswith("=")):
                where = before if before.startswith("--") else word.rstrip("= ") or "an argument"
                self.error(
                    f"{where} is empty, as an unset variable of the shell is: give a value, or leave it out"
                )
        chosen = super().parse_args(*args, **kwargs)
        values = vars(chosen)
        moved = {name: path for name, path in machine.moved_places().items() if values.get(name) == path}
        machine.note_moved(moved, "--{} FOLDER")
        return chosen


def parser(name: str, description: str, examples: str = "") -> Parser:
    """Return the parser of `python -m <name>`. `examples` stands below the help as it is."""
    return Parser(
        f"python -m {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_places(options: argparse.ArgumentParser, **purposes: str) -> None:
    """Add an option for each folder that is named, such as `runs="of the records"`.

    Its default is its name, or its place in the user's data folder where nothing can be written to here.
    """
    moved = machine.moved_places()
    for name, purpose in purposes.items():
        options.add_argument(
            f"--{name}", default=moved.get(name, name), help=f"folder {purpose} (default: %(default)s)"
        )


def add_sweep(options: argparse.ArgumentParser, purpose: str) -> None:
    """Add `--sweep NAME`, which may be given again; without it `sweep` is None."""
    options.add_argument("--sweep", action="append", metavar="NAME", help=purpose)


def framed(main: Callable[..., int | None]) -> Callable[..., int]:
    """Make a command of a function that raises BadInput.

    The command returns its exit code: what the function returns (None: 0), 2 after one line on stderr for BadInput and
    for a file that cannot be used, 130 for Ctrl-C. It returns 0 where its reader, such as `head`, has seen enough.
    """

    @functools.wraps(main)
    def command(*args: object, **kwargs: object) -> int:
        _open_closed_streams()
        wants_traceback = os.environ.get(TRACEBACK) == "1"
        try:
            code = main(*args, **kwargs) or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (BadInput, OSError) as error:
            if wants_traceback:
                raise
            return refuse(message(error))
        except KeyboardInterrupt:
            print("interrupted: what is recorded is kept, the same command does the rest", file=sys.stderr)
            return 130

    return command


def _open_closed_streams() -> None:
    """Open what was closed (`>&-`) to nowhere: the next file that is opened would stand in its place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def refuse(reason: str, code: int = 2) -> int:
    """Print the reason on stderr, as one line, and return `code`."""
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    return code


def message(error: Exception) -> str:
    """Return what an error says; an OSError also says what to do about its file."""
    if isinstance(error, OSError) and error.filename:
        return f"cannot use {error.filename}: {error.strerror}; choose a path that you may write to"
    return str(error)
