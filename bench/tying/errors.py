"""What the user can get wrong, and what was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """One line that says what was wrong, what is allowed and how to fix it; the command line exits with 2."""


def spelled_like(word: str, known: Iterable[str], cutoff: float = 0.75) -> str | None:
    """Return the name that is spelled most like `word`, whatever the case and the dashes; None if none is."""
    names = {_plain(name): name for name in known}
    return next((names[name] for name in get_close_matches(_plain(word), names, 1, cutoff)), None)


def has_as_part(word: str, known: Iterable[str]) -> str | None:
    """Return the shortest name that has `word` between its underscores, as max_epochs has epochs; None if none has."""
    return min((name for name in known if _plain(word) in _plain(name).split("_")), key=len, default=None)


def offer(word: str, known: Iterable[str], listing: str = "allowed are") -> str:
    """Say which name was probably meant; where none is near, list them all after `listing`."""
    names = list(known)
    meant = spelled_like(word, names) or has_as_part(word, names)
    return f"did you mean {meant}?" if meant else f"{listing} {', '.join(names) or 'none'}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").lstrip("_")
