"""The shell command that runs a recorded run again: its config, as overrides of what conf/ composes to today."""

import functools
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.records import leaves
from bench.report.numbers import axis
from bench.report.order import parts
from bench.report.rows import Run, look_up

CONF = Path(__file__).resolve().parents[2] / "conf"
PROGRAM = "python -m bench"
NOT_RECORDED = "config not recorded"
NO_LONGER = "conf/ composes this no longer"

Leaves = dict[str, Any]
"""Dotted key -> value; lists, and mappings with nothing in them, are values."""

Choice = tuple[str, ...]
"""Overrides of groups: `task=main/text_gru`."""

# Where data lies and what it was found to hold: of the machine, and filled in when a run is prepared.
_OF_DATA = {"root", "folder", "meta", "fingerprint", "module"}
_SKIPPED = ("data.source.root", "data.source.files", "tying.parts")
_SAID_ANYWAY = ("dropout", "weight_decay")


def command(run: Run) -> str:
    """`python -m bench task=... data=... tying=... ... seed=...`, for a shell in the repository.

    Composing it gives the identity of `run`, as long as conf/ is as it was. It names the choice of each group
    that leaves the least to say, and then every leaf that differs from it. A leaf that the record does not have
    stays what conf/ says. Where the data lies is not said: BENCH_DATA_ROOT says it. Of the full path of a
    file only the last part is. Without a recorded config, or without conf/, the text says so in its place.
    """
    config = run.record.get("config")
    known = all(look_up(config, *keys) for keys in (("task", "name"), ("data", "name"), ("tying",)))
    if not known or not (CONF / "config.yaml").is_file():
        return NOT_RECORDED
    kept = {key: value for key, value in config.items() if key != "seed"}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in _OF_DATA}
    said = _without_seed(json.dumps(kept, sort_keys=True), run.tying)
    return said and f"{said} seed={run.seed}" or NO_LONGER


@functools.lru_cache(maxsize=4096)
def _without_seed(text: str, label: str) -> str | None:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    config = json.loads(text)
    try:
        overrides = _overrides(config, label)
    except (HydraException, OmegaConfBaseException, YAMLError):  # the last: somebody is editing conf/
        return None
    return overrides and " ".join([PROGRAM, *(shlex.quote(override) for override in overrides)])


def _overrides(config: Mapping[str, Any], label: str) -> list[str] | None:
    """What to say besides the seed; None where conf/ has no such task, data or tying."""
    recorded, data = leaves(config), config["data"]["name"]
    task = _fewest(_tasks(config), recorded, ("task", "model", "optimizer", "trainer"))
    tying = _fewest(_tyings(config, label), recorded, ("tying",))
    if task is None or tying is None or not (CONF / "data" / f"{data}.yaml").is_file():
        return None
    models = ((*task, f"model={name}") for name in _models(config) if _is_other_model(task, recorded))
    chosen = _fewest(itertools.chain([task], models), recorded, ("model",))
    if config.get("start"):
        chosen = (*chosen, "start=untied")
    brings_data = _composed(*chosen)["data.name"] == data
    composed = {"tying": tying, "data": chosen if brings_data else (f"data={data}",)}
    if "learned" in config["tying"].get("parts", {}):
        recorded.pop("tying.grouping", None)  # found anew, in the run that is recorded too
    found = {
        key: said
        for group in sorted({key.split(".")[0] for key in recorded})
        for key, said in _differing(recorded, composed.get(group, chosen), (group,)).items()
    }
    axes = [f"{key}={axis(recorded[key])}" for key in _SAID_ANYWAY if key in recorded]
    of_tying = [said for key, said in found.items() if key.startswith("tying.")]
    rest = [said for key, said in found.items() if not key.startswith("tying.") and key not in _SAID_ANYWAY]
    return [chosen[0], f"data={data}", *chosen[1:], *tying, *of_tying, *axes, *rest]


def _fewest(choices: Iterable[Choice], recorded: Leaves, groups: tuple[str, ...]) -> Choice | None:
    """The choice that leaves the fewest leaves of `groups` to say, the first among equals; None without one."""
    best, least = None, None
    for choice in choices:
        left = len(_differing(recorded, choice, groups))
        if least is None or left < least:
            best, least = choice, left
        if not left:  # a composition takes Hydra long enough to save one
            break
    return best


def _tasks(config: Mapping[str, Any]) -> list[Choice]:
    """A task may have several sizes: main/text_gru beside text_gru."""
    root, name = CONF / "task", config["task"]["name"]
    found = sorted(root.rglob(f"{name}.yaml"), key=lambda path: (len(path.parts), path))
    return [(f"task={path.relative_to(root).with_suffix('').as_posix()}",) for path in found]


def _models(config: Mapping[str, Any]) -> list[str]:
    target = str(look_up(config, "model", "_target_"))
    return [path.stem for path in sorted((CONF / "model").glob("*.yaml")) if target in path.read_text()]


def _is_other_model(task: Choice, recorded: Leaves) -> bool:
    """Whether a name of the model differs, not only a size."""
    return any(isinstance(recorded[key.lstrip("+")], str) for key in _differing(recorded, task, ("model",)))


def _tyings(config: Mapping[str, Any], label: str) -> Iterator[Choice]:
    """Choices whose strategies are the recorded ones; several are composed in the order of the label."""
    strategies = list(look_up(config, "tying", "parts") or {})
    if len(strategies) > 1:
        named = [re.split(r"[(\s,]", part)[0] for part in parts(label)]
        ordered = sorted(strategies, key=lambda name: named.index(name) if name in named else len(named))
        yield (f"tying=[{','.join(ordered)}]",)
        return
    name = strategies[0] if strategies else "none"
    for path in sorted((CONF / "tying").glob(f"{name}*.yaml")):
        choice = (f"tying={path.stem}",)
        if _strategies(_composed(*choice)) == set(strategies):
            yield choice


def _strategies(composed: Leaves) -> set[str]:
    return {key.split(".")[2] for key in composed if key.startswith("tying.parts.")}


def _differing(recorded: Leaves, choice: Choice, groups: tuple[str, ...]) -> dict[str, str]:
    """Key -> override, of the leaves of `groups` that are recorded otherwise than `choice` composes to."""
    composed = _composed(*choice)
    found = {}
    for key, ours in recorded.items():
        if key.split(".")[0] not in groups or key.startswith(_SKIPPED):
            continue
        if key not in composed:
            found[key] = f"+{key}={value(ours)}"
        elif not _follows(ours, composed[key], recorded):
            found[key] = f"{key}={value(_portable(ours) if key.startswith('data.') else ours)}"
    return found


def _follows(ours: Any, composed: Any, recorded: Leaves) -> bool:
    """Whether the value comes about without being said: conf/ has it, or has an interpolation that gives it."""
    if not isinstance(composed, str) or "${" not in composed:
        return ours == composed
    if plain := re.fullmatch(r"\$\{(\w[\w.]*)\}", composed):
        return ours == recorded.get(plain[1])
    return ours is None or composed.startswith("${.")


def _portable(path: Any) -> Any:
    return f"/path/to/{Path(path).name}" if isinstance(path, str) and path.startswith("/") else path


@functools.cache
def _composed(*overrides: str) -> Leaves:
    """What conf/ composes to, interpolations as they stand. Whatever Hydra is in the middle of is left alone."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), job_name="bench", version_base="1.3"):
            return leaves(OmegaConf.to_container(compose("config", overrides=list(overrides))))
    finally:
        GlobalHydra.instance().hydra = running


def value(given: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if given is None:
        return "null"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, Mapping):
        return "{" + ",".join(f"{key}:{value(inner)}" for key, inner in given.items()) + "}"
    if isinstance(given, list | tuple):
        return "[" + ",".join(value(inner) for inner in given) + "]"
    return _text(given) if isinstance(given, str) else repr(given)


def _text(given: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    word = re.fullmatch(r"[A-Za-z_/][\w./-]*", given, re.ASCII)
    if word and given.lower() not in ("null", "true", "false", "nan", "inf"):
        return given
    return QuotedString(given, Quote.single).with_quotes()
