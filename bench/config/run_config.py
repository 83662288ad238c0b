"""Describe one run: its frozen, checked config, its tying choice, its identity and its label. No torch."""

import copy
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from bench.config.targets import check_targets
from bench.data.prepare import Prepared, prepare
from bench.data.zoo import setting
from bench.runs.identity import RESULTS_VERSION, identity, recorded_names
from bench.runs.store import SCHEMA, run_folder
from bench.runs.tying_spec import GROWL, LEARNED, TyingSpec
from bench.tying.errors import BadInput

RUN_KEYS = (
    "task",
    "data",
    "model",
    "tying",
    "control",
    "start",
    "dropout",
    "weight_decay",
    "seed",
    "optimizer",
    "trainer",
    "measure",
)
"""What a run, or the measurement of its cost, is made of."""

OPTION_KEYS = ("logger", "sweep", "retry", "reuse", "runs", "results", "lr_search")

RATES_REACHED = "lr_reached"
"""An option that a sweep adds: learning rate -> what validation came to at it, in the search that chose the cell's."""

FOLDERS = ("runs", "results", "cache")
NOT_REPEATED = (*FOLDERS, "retry")
"""Options that no command to run a record again repeats: where its files were, and whether it had failed before."""

# Where a run's files are, and on what it runs: recorded, but no part of its identity.
_OUTSIDE = {
    "task": ("kind",),
    "data": ("root", "source", "module", "files", "folder", "meta", "tokenizer_of"),
    "trainer": ("accelerator", "threads", "strategy", "checkpoint_every_s"),
}

# Keys that came later, each with the value that does nothing: left out where they have it, so that a run recorded
# before them has the identity it had.
_LATER: dict[str | None, dict[str, Any]] = {
    None: dict.fromkeys(("control", "start")),
    "data": dict.fromkeys(("range", "time_format", "val_limit", "test_limit")),
    "model": {"injection": "none", "init_scale": 1},
    "tying": dict.fromkeys(("groups", "repeats", "kv_heads", "rank", "grouping", "shuffle", "merge")),
    "optimizer": dict.fromkeys(("shared_lr", "group_owl")),
    "trainer": dict.fromkeys(("use_gradients", "quantize", "max_steps", "patience", "example_scores")),
}

_OF_EPOCHS = {"max_epochs", "val_check_interval"}
"""Keys of the trainer that a budget in steps takes the place of."""

LEARNING = {LEARNED: {"groups", "strength", "shuffle"}, GROWL: {"strength", "shuffle"}}
"""Keys that say how the controller finds a grouping (`bench.sweep.prerequisites`); the plan reads none of them."""

OmegaConf.register_new_resolver("trained", setting, replace=True)
OmegaConf.register_new_resolver(
    "unless", lambda value, default: default if value is None else None, replace=True
)


@dataclass(frozen=True)
class RunConfig:
    """A run to be. `config`: what can change a number, resolved and checked. `options`: how it is handled.

    overrides: those of the command line that asks for this run; None for a run that another one needs.
    """

    config: dict[str, Any]
    options: dict[str, Any]
    unused: tuple[str, ...] = ()
    overrides: tuple[str, ...] | None = None

    @functools.cached_property
    def id(self) -> str:
        """Identity of the run: everything that can change one of its numbers."""
        return identity(_hashed(self.config))

    @functools.cached_property
    def group(self) -> str:
        """Identity without the seed: the cell whose seeds are averaged."""
        return identity({**_hashed(self.config), "seed": None})

    @functools.cached_property
    def cost(self) -> str:
        """Identity of the cost record: task x model x tying, whatever the regularisation and the seed."""
        hashed = _hashed(self.config)
        trainer, tying = self.config["trainer"], dict(hashed["tying"])
        if tying["strength"]:
            tying["strength"] = 1  # how strong a penalty is does not change what it costs
        kept = {key: hashed[key] for key in ("task", "data", "model", "results_version")}
        keys = ("precision", "output_precision", "compile", "accelerator", "threads")
        machine = {key: trainer[key] for key in keys}
        tying |= {"init": None, "parts": list(tying["parts"])}
        tying.pop("merge", None)
        clips = self.config["optimizer"]["clip"] is not None
        if "control" in hashed:
            kept["control"] = hashed["control"]
        # Without what was once the only way: the same cost has the same identity.
        measure = {
            key: value for key, value in self.config["measure"].items() if (key, value) != ("cold", True)
        }
        return identity({**kept, **machine, "clips": clips, "measure": measure, "tying": tying})

    @property
    def is_measured(self) -> bool:
        """Whether a sweep measures what it costs."""
        return self.config["measure"]["max_seconds"] > 0

    @property
    def runs(self) -> Path:
        return Path(self.options["runs"])

    @property
    def folder(self) -> Path:
        return run_folder(self.runs, self.id)

    @functools.cached_property
    def spec(self) -> TyingSpec:
        """Which tying it is of."""
        return TyingSpec.of(self.config)

    @property
    def label(self) -> str:
        """What it is called: `cross_layer`, `cross_layer, control=params`, `cross_layer, start=untied`."""
        return self.spec.label

    @functools.cached_property
    def start(self) -> "RunConfig | None":
        """The run whose best weights this one begins from: the same one untied, at the budget that `start` gives.

        None where it begins from its seed's own weights, or from a trained model.
        """
        start = self.config.get("start")
        if start is None or "model" in start:
            return None
        return self.altered(
            start=None,
            control=None,
            tying={**dict.fromkeys(self.config["tying"]), "parts": {}},
            trainer={"max_epochs": start["max_epochs"], "max_steps": None, "use_gradients": None},
            optimizer={"lr": start["lr"]},
        )

    def header(self) -> dict[str, Any]:
        """Return the first part of the run's record: what it is a record of."""
        config = self.config
        return {
            "schema": SCHEMA,
            "results_version": RESULTS_VERSION,
            "id": self.id,
            "cell": self.group,
            "cost": self.cost if self.is_measured else None,
            "task": config["task"]["name"],
            "data": config["data"]["name"],
            "tying": self.label,
            "spec": self.spec.as_record(),
            "dropout": config["dropout"],
            "weight_decay": config["weight_decay"],
            "seed": config["seed"],
            "metric": config["task"]["metric"],
            "data_meta": config["data"]["meta"],
            "overrides": None if self.overrides is None else list(self.overrides),
        }

    def altered(self, **changes: Any) -> "RunConfig":
        """Return another run: this one with some top-level keys changed; mappings are merged."""
        config = copy.deepcopy(self.config)
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(value, Mapping) else value
        return replace(self, config=config, overrides=None)

    def completed(self, **changes: Any) -> "RunConfig":
        """Return the run that was asked for, with what was found out before it: its grouping, its learning rate."""
        return replace(self.altered(**changes), overrides=self.overrides)


def from_hydra(cfg: DictConfig, overrides: Iterable[str] | None = None) -> RunConfig:
    """Return the cell that a composed config asks for; prepare its data if need be. BadInput in one line.

    overrides: as `with_data` says.
    """
    return with_data(*checked(cfg), overrides)


def checked(cfg: DictConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a composed config, resolved, and its keys that its tying does not use. BadInput; no file is written."""
    from bench.config.refusals import check  # here: pydantic takes 50 ms, which `--help` need not wait for

    unused = _null_unused(cfg)
    try:
        composed = OmegaConf.to_container(cfg, resolve=True)
    except InterpolationResolutionError as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, BadInput):  # what a resolver raised, inside
            reason = reason.__cause__ or reason.__context__
        raise reason or error from None
    check(composed)
    check_targets(composed)
    if not composed["tying"]["parts"]:  # the control of `none` is `none` itself, and nothing is shared
        for path, section, key in (
            ("control", composed, "control"),
            ("optimizer.shared_lr", composed["optimizer"], "shared_lr"),
        ):
            if section[key] is not None:
                unused, section[key] = (*unused, path), None
    return composed, unused


def with_data(
    composed: Mapping[str, Any], unused: tuple[str, ...], overrides: Iterable[str] | None = None
) -> RunConfig:
    """Return the cell of what `checked` returns; prepare its data if need be. BadInput in one line.

    overrides: those that it was composed with. Kept are all but those that say where files lie.
    """
    config = {key: composed[key] for key in RUN_KEYS}
    prepared = _prepared(json.dumps(config["data"], sort_keys=True), composed["cache"])
    config["data"] = {
        **config["data"],
        "folder": str(prepared.folder.resolve()),
        "fingerprint": prepared.fingerprint,
        "meta": prepared.meta,
    }
    if overrides is not None:
        overrides = tuple(text for text in overrides if text.split("=")[0] not in NOT_REPEATED)
    return RunConfig(config, {key: composed[key] for key in OPTION_KEYS}, unused, overrides)


@functools.cache
def _prepared(data: str, cache: str) -> Prepared:
    return prepare(json.loads(data), Path(cache))


def check_one_sweep(configs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse options of a whole sweep that differ between its cells: the first cell's would hold for all.

    Args:
        configs: Of each cell what `checked` returns.

    Raises:
        BadInput: The option, with the values that were given.
    """
    options = ("name", "question", "picture", "note", "takes", "points", "fail_fast", "stop")
    for key in (*(f"sweep.{name}" for name in options), "logger", "retry", "reuse", *FOLDERS):
        values = [
            functools.reduce(lambda section, name: section[name], key.split("."), config)
            for config in configs
        ]
        if distinct := [value for value in values if value != values[0]]:
            both = [value["_target_"] if key == "logger" else value for value in (values[0], distinct[0])]
            raise BadInput(
                f"{key} is one for a whole sweep, and here it is {both[0]} and {both[1]}: give one value, or start "
                "a sweep for each"
            )


def check_one_run(cells: Sequence[RunConfig]) -> None:
    """Refuse cells that are one run and differ in what is no part of a run's identity. BadInput with the values."""
    first: dict[tuple[str, str], RunConfig] = {}
    for cell in cells:
        other = first.setdefault((cell.id, cell.cost), cell)
        for section, key, value, theirs in differences_outside(cell.config, other.config):
            raise BadInput(
                f"{section}.{key} is {value} and {theirs} in cells that are one run, for no number depends on it: "
                "give one value"
            )


def differences_outside(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield (section, key, value of one, value of other) where two configs of one run are not the same."""
    for section, keys in _OUTSIDE.items():
        for key in keys:
            if key in one[section] and key in other[section] and one[section][key] != other[section][key]:
                yield section, key, one[section][key], other[section][key]


def _hashed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's config that can change a number."""
    kept = {
        key: {name: item for name, item in value.items() if _counts(key, name, item)}
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key != "measure" and _counts(None, key, value)
    }
    if config["trainer"].get("max_steps") is not None:
        kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key not in _OF_EPOCHS}
    return {**recorded_names(kept), "results_version": RESULTS_VERSION}


def _counts(section: str | None, key: str, value: Any) -> bool:
    later = _LATER.get(section, {})
    is_off = key in later and value == later[key]
    return not is_off and key not in _OUTSIDE.get(section, ())


def _null_unused(cfg: DictConfig) -> tuple[str, ...]:
    """Null the keys of `cfg.tying` that the chosen strategies do not read; returns those that had been set.

    Hence `tying=none,top_k tying.k=2,3` composes, and its two cells of `none` are one run.
    """
    if not OmegaConf.is_dict(cfg.tying.get("parts")):
        return ()  # `check` refuses it
    parts = repr(OmegaConf.to_container(cfg.tying.parts))
    used = set(re.findall(r"\$\{tying\.(\w+)\}", parts))
    if cfg.tying.parts and cfg.control is None and "model" in (cfg.start or {}):
        used.add("merge")  # read by apply, where trained weights are tied
    if "strength" in used:
        used |= {"form", "init"}  # read by the training loop and by apply, for soft ties alone
    for part in LEARNING.keys() & cfg.tying.parts.keys():
        used |= LEARNING[part]  # read by the controller
    cleared = []
    for key in cfg.tying:
        if key not in used | {"parts"} and cfg.tying[key] is not None:
            cleared.append(f"tying.{key}")
            cfg.tying[key] = None
    return tuple(cleared)
