"""A claim as its file in conf/claims says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.analysis.groups import natural
from bench.claims.rule import DECIDING, EVERY, GATES, parsed
from bench.runs import machine
from bench.runs.sources import rule_hash
from bench.tying.errors import BadInput

FOLDER = machine.CONF / "claims"
KINDS = ("arithmetic", "exact", "empirical", "procedure")
KEYS = {
    "id": "its name, such as C8",
    "statement": "what is said",
    "source": "who says it",
    "kind": f"one of {', '.join(KINDS)}",
    "sweep": "the name of a sweep or a list of them, or null",
    "test": "{_target_: a function of bench.claims, its arguments}, or null",
    "rule": "{supported: an expression, refuted: an expression} for each part, and if it may be so {vacuous: an "
    "expression, untestable: an expression}; null without a test",
    "overall": "the same over how many parts are `supported`, `refuted`, of all `parts` that are judged; null: EVERY",
    "reduced": "what was reduced, or null",
    "untestable": "why this project cannot test it, or the parts for which the rule's `untestable` holds; or null",
    "decided_by": "the command or the experiment that would decide what is open, or null",
    "published": "{rows: ids of conf/published.csv, reading: how they go with the verdict}, or null",
}


@dataclass(frozen=True)
class Claim:
    """A claim file, checked. KEYS says what its fields are; `hash` is that of its rule (`bench.runs.sources`)."""

    id: str
    statement: str
    source: str
    kind: str
    sweeps: tuple[str, ...]
    test: Mapping[str, Any] | None
    rule: Mapping[str, Any] | None
    overall: Mapping[str, Any]
    reduced: str
    untestable: str
    decided_by: str
    published: Mapping[str, Any] | None
    hash: str

    @property
    def command(self) -> str:
        """The shell command that makes its row anew."""
        sweeps = [f"make sweep SWEEP={name}" for name in self.sweeps]
        return " && ".join([*sweeps, f"make claims ARGS='--only {self.id}'"])


def files(folder: Path) -> list[Path]:
    """Return the claim files in the order of their numbers. BadInput where there is none."""
    paths = sorted(folder.glob("*.yaml"), key=lambda path: natural(path.stem))
    if not paths:
        raise BadInput(f"no claim file (*.yaml) in {folder}")
    return paths


def id_of(path: Path) -> str:
    """Return C8 for c08.yaml."""
    letter, number = path.stem[:1].upper(), path.stem[1:]
    return f"{letter}{int(number)}" if number.isdigit() else path.stem.upper()


def read(path: Path) -> Claim:
    """Read a claim file. BadInput, one line that names the file, for what is not as KEYS say."""
    try:
        return _checked(yaml.safe_load(path.read_text()))
    except BadInput as error:
        raise BadInput(f"claim file {path.name}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"claim file {path.name}: not read: {' '.join(str(error).split())}") from error


def _checked(content: Any) -> Claim:
    if not isinstance(content, Mapping):
        raise BadInput(f"it must be a mapping with the keys {', '.join(KEYS)}")
    for key in KEYS:
        if key not in content:
            raise BadInput(f"no key `{key}`: set it to {KEYS[key]}")
    if unknown := sorted(set(map(str, content)) - KEYS.keys()):
        raise BadInput(f"unknown key `{unknown[0]}`: allowed are {', '.join(KEYS)}")
    for key in ("id", "statement", "source"):
        if not isinstance(content[key], str) or not content[key].strip():
            raise BadInput(f"`{key}` is {content[key]!r}; it must be {KEYS[key]}")
    if content["kind"] not in KINDS:
        raise BadInput(f"`kind` is {content['kind']!r}; it must be {KEYS['kind']}")
    test, rule, overall = content["test"], content["rule"], content["overall"] or EVERY
    if test is not None and not (isinstance(test, Mapping) and isinstance(test.get("_target_"), str)):
        raise BadInput(f"`test` must be {KEYS['test']}")
    has_gate = isinstance(rule, Mapping) and "untestable" in rule
    if (test is None or has_gate) and not content["untestable"]:
        raise BadInput("without a test, and with a rule `untestable`, say in `untestable` what is missing")
    judged = {"overall": overall} if test is None else {"rule": rule, "overall": overall}
    for key, expressions in judged.items():
        allowed = {*DECIDING, *GATES} if key == "rule" else set(DECIDING)
        if not isinstance(expressions, Mapping) or not set(DECIDING) <= set(expressions) <= allowed:
            raise BadInput(f"`{key}` must be {KEYS['rule']}")
        for expression in expressions.values():
            parsed(expression)
    sweep = content["sweep"]
    sweeps = sweep if isinstance(sweep, list) else [] if sweep is None else [sweep]
    if not all(isinstance(name, str) for name in sweeps):
        raise BadInput(f"`sweep` is {sweep!r}; it must be {KEYS['sweep']}")
    published = content["published"]
    if published is not None and not (
        isinstance(published, Mapping) and set(published) == {"rows", "reading"}
    ):
        raise BadInput(f"`published` must be {KEYS['published']}")
    texts = ("id", "statement", "source", "reduced", "untestable", "decided_by")
    return Claim(
        kind=content["kind"],
        sweeps=tuple(sweeps),
        test=test,
        rule=rule,
        overall=overall,
        published=published,
        hash=rule_hash(content),
        **{key: " ".join(str(content[key] or "").split()) for key in texts},
    )
