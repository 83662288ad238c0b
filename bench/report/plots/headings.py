"""Say in words which section a panel shows, and among several what tells it from the others."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.groups import AXES, SHARED_RATE, Section, as_given, flat, grouped
from bench.analysis.runs import Metric

WORDS = {
    "start=untied": "after untied training",
    "start": "starting from {}",
    "data.train_limit=null": "all training {units}",
    "data.train_limit": "{} training {units}",
    "model.depth": "depth {}",
    "model.width": "width {}",
    "model.repeats=null": "keys and values of each layer's own",
    "model.repeats": "keys and values shared by {} layers",
    "model.injection=none": "the input read once",
    "model.injection=add": "the input added before each block",
    "model.init_scale": "initial weights times {}",
    "optimizer.lr": "learning rate {}",
    "optimizer.shared_lr=null": "shared weights at the full rate",
    "optimizer.shared_lr=sqrt": "shared weights at the rate / √uses",
    "trainer.max_steps": "{} steps",
    "trainer.max_epochs": "{} epochs",
    "trainer.output_precision=null": "output layer as precise as the others",
    "trainer.output_precision": "output layer in {}",
}
"""A setting, or one with its value -> how a title says it, in the order of a title. Others say their last name."""


def titles(sections: Sequence[Section]) -> dict[Section, str]:
    """Return what each section is called above a panel: its task, its data, and what tells it from the others."""
    distinction = distinctions(sections)
    names = {}
    for section in sections:
        variant = "" if len(sections) > 1 else in_words(section.variant, section.metric)
        details = ", ".join(filter(None, (variant, distinction[section])))
        names[section] = ", ".join(filter(None, (f"{section.task} on {section.data}", details)))
    return names


def distinctions(sections: Sequence[Section]) -> dict[Section, str]:
    """Return in words the fewest settings that tell each section from the others of its task and data.

    Empty for a section that is alone; the fingerprint of the data where no setting differs.
    """
    groups = grouped(sections, lambda section: (section.task, section.data))
    return {section: text for group in groups.values() for section, text in _distinctions(group).items()}


def _distinctions(group: list[Section]) -> dict[Section, str]:
    settings = {section: _settings(section) for section in group}
    order = [*WORDS, *sorted({key for own in settings.values() for key in own} - WORDS.keys())]
    chosen: list[str] = []

    def marks(keys: Sequence[str]) -> list[tuple]:
        return [tuple(settings[section].get(key) for key in keys) for section in group]

    def tells(key: str) -> tuple[int, bool]:
        """How many sections it tells apart, and whether the sweep varied it: a rate that all arms chose is chance."""
        return len(set(marks([*chosen, key]))), any(f"{key}=" in section.variant for section in group)

    while len(set(marks(chosen))) < len(group):
        best = max(order, key=tells)  # the first of equals
        if len(set(marks([*chosen, best]))) == len(set(marks(chosen))):
            break
        chosen.append(best)
    chosen.sort(key=order.index)
    names = {
        section: ", ".join(
            _words(key, settings[section][key], section.metric) for key in chosen if key in settings[section]
        )
        for section in group
    }
    repeated = len(set(names.values())) < len(group)
    return {
        section: ", ".join(filter(None, (name, f"data {(section.fingerprint or 'unknown')[:6]}" * repeated)))
        for section, name in names.items()
    }


def _settings(section: Section) -> dict[str, str]:
    """Return the settings, with their values as text, that all cells of a section share.

    A network that shares nothing has no rate of shared tensors: of that setting the others count.
    """
    cells = [(cell, flat(config)) for cell in section.cells if (config := _config(cell.runs))]
    rates = [config[SHARED_RATE] for cell, config in cells if SHARED_RATE in config and not cell.is_untied]
    known = [config | ({SHARED_RATE: rates[0]} if cell.is_untied and rates else {}) for cell, config in cells]
    shared = set(known[0]).intersection(*known) if known else set()
    values = {
        key: as_given(known[0][key])
        for key in shared.difference(AXES)
        if not key.startswith("tying.") and all(config[key] == known[0][key] for config in known)
    }
    start = section.cells[0].runs[0].spec.begins
    return values if start is None else values | {"start": start}


def _config(runs: Sequence) -> Mapping[str, Any] | None:
    return next((run.record["config"] for run in runs if run.record.get("config")), None)


def in_words(text: str, metric: Metric) -> str:
    """`learning rate 0.004` of `optimizer.lr=0.004`, for every setting of a text that stands in no brackets."""
    setting = r"([\w.]+)=([^\s,()]+)(?![^()]*\))"
    return re.sub(setting, lambda match: _words(match[1], match[2], metric), text)


def _words(key: str, value: str, metric: Metric) -> str:
    units = "tokens" if metric.name == "perplexity" else "examples"
    shown = f"{int(value):,}" if value.isdigit() else value
    plain = f"{key.rpartition('.')[2].replace('_', ' ')} {{}}"
    form = WORDS.get(f"{key}={value}") or WORDS.get(key, plain)
    return form.format("not set" if value == "null" else shown, units=units)
