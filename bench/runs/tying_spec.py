"""Say what a run ties and how, as data: the table of methods, a run's spec, and the label made of it. No torch."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Any

Keys = tuple[tuple[str, Any], ...]
"""Names with their values, sorted by name; lists as tuples, so that two of them compare and hash."""

OTHER = "#777777"

LEARNED, GROWL = FINDERS = "learned", "growl"
"""The parts of a plan whose grouping the controller finds before the run (`bench.sweep.prerequisites`)."""


def finder_of(parts: Container[str]) -> str | None:
    """Return the part, of those with these names, whose grouping is found before the run; None where none is."""
    return next((name for name in FINDERS if name in parts), None)


@dataclass(frozen=True)
class Method:
    """Says how reports show a method; its function and its defaults are in its file of conf/tying.

    keys: those that its label shows, in their order. colour: in every picture. full: the method that it becomes where
    it shares most, None where there is no such end.
    """

    name: str
    keys: tuple[str, ...] = ()
    colour: str = OTHER
    full: str | None = None


# In the order of every table. Okabe and Ito's palette for colour-blind readers, and Tol's muted one for patterns along
# depth. A method that is not here works too: it shows all of its keys and stands after these, in the next free colour.
METHODS = {
    method.name: method
    for method in (
        Method("none", colour="#000000"),
        Method("embedding", colour="#E69F00"),
        Method("joint_embedding"),
        Method("cross_layer", colour="#0072B2"),
        Method("top_k", ("k", "fraction"), "#009E73", full="cross_layer"),
        Method("bottom_k", ("k", "fraction"), "#44AA99", full="cross_layer"),
        Method("sandwich", colour="#999933"),
        Method("sequence", ("groups",), "#882255", full="cross_layer"),
        Method("cycle", ("groups",), "#332288", full="cross_layer"),
        Method("cycle_rev", ("groups",), "#AA4499", full="cross_layer"),
        Method("block_wise", ("repeats",), "#661100"),
        Method("grouped", ("grouping",), "#DDCC77"),
        Method("relaxed", ("groups", "rank"), "#88CCEE"),
        Method("mqa"),
        Method("gqa", ("kv_heads",), full="mqa"),
        Method("k_equals_v"),
        Method("kv_across_layers", ("repeats",)),
        Method("experts", ("repeats",)),
        Method("gates"),
        Method("hashed", ("fraction",)),
        Method("over_positions"),
        Method("rotations"),
        Method("transpose"),
        Method(GROWL, ("strength", "shuffle")),
        Method(LEARNED, ("groups", "shuffle"), "#CC6677"),
        Method("soft", ("strength",), "#D55E00", full="cross_layer"),
        Method("soft_decoupled", ("strength",), "#CC79A7", full="cross_layer"),
        Method("soft_embedding", ("strength",), full="embedding"),
    )
}
COMPOSITION = Method("composition", colour="#56B4E9")
"""Several methods in one plan."""

SPARE = ("#117733", "#AA3377", "#EE7733", "#4477AA", "#BBBB44", "#AA4466")
"""For methods that have no colour of their own."""

_APART = ("scope", "form", "init", "merge")
"""Keys that are shown after the others, and only away from their plain form."""


@dataclass(frozen=True)
class Part:
    """Names one method of a plan and the values of its keys; keys that are null are left out."""

    method: str
    keys: Keys = ()

    def get(self, key: str) -> Any:
        return dict(self.keys).get(key)

    def without(self, *names: str) -> "Part":
        return replace(self, keys=tuple(item for item in self.keys if item[0] not in names))

    @property
    def family(self) -> str:
        """Return the method; `soft_decoupled` for a soft one that the optimizer does not rescale."""
        return "soft_decoupled" if self.get("form") == "decoupled" else self.method

    @property
    def full(self) -> str | None:
        """Return the method that it becomes where it shares most; None where there is no such end."""
        method = METHODS.get(self.method)
        return method and method.full

    @property
    def shown(self) -> dict[str, Any]:
        """Return the keys that its label shows first, in that order, with their values."""
        method, keys = METHODS.get(self.method), dict(self.keys)
        names = method.keys if method else [name for name in keys if name not in _APART]
        return {name: keys[name] for name in names if name in keys}

    @property
    def called(self) -> str:
        """Return its label in tables and pictures, where random groups are not called learned."""
        is_random = self.method == LEARNED and self.get("shuffle") is not None
        return f"random{self.label.removeprefix(LEARNED)}" if is_random else self.label

    @property
    def label(self) -> str:
        shown = [f"{name}={_text(value)}" for name, value in self.shown.items()]
        if self.get("scope") not in (None, "weights"):
            shown.append(f"scope={_text(self.get('scope'))}")
        shown += ["decoupled"] if self.get("form") == "decoupled" else []
        shown += ["init=shared"] if self.get("init") == "shared" else []
        shown += [f"merge={self.get('merge')}"] if self.get("merge") is not None else []
        return f"{self.method}({', '.join(shown)})" if shown else self.method


@dataclass(frozen=True)
class TyingSpec:
    """Describes the tying of a run: the methods of its plan in order, its kind of control, and what it starts from.

    control: `params`, `respend` or None. start: the keys of `start` in the config, None where the run begins from
    its seed's own weights.
    """

    parts: tuple[Part, ...] = ()
    control: str | None = None
    start: Keys | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TyingSpec":
        """Read the spec of a run from its config, composed or recorded."""
        tying, start = config["tying"], config.get("start")
        return cls(
            tuple(Part(name, _keys(name, part, tying)) for name, part in tying["parts"].items()),
            config.get("control"),
            _sorted(start) if start else None,
        )

    @classmethod
    def unknown(cls, label: str) -> "TyingSpec":
        """Stand in for the spec of a run of which nothing but its label was recorded."""
        return cls() if label == "none" else cls((Part(label),))

    @classmethod
    def from_record(cls, recorded: Mapping[str, Any]) -> "TyingSpec":
        """Read what `as_record` gave, from JSON."""
        start = recorded["start"]
        return cls(
            tuple(Part(part["method"], _sorted(part["keys"])) for part in recorded["parts"]),
            recorded["control"],
            None if start is None else _sorted(start),
        )

    def as_record(self) -> dict[str, Any]:
        return {
            "parts": [{"method": part.method, "keys": dict(part.keys)} for part in self.parts],
            "control": self.control,
            "start": None if self.start is None else dict(self.start),
        }

    @cached_property
    def label(self) -> str:
        """Return what people call it: `embedding+top_k(k=3)`, `cross_layer, control=params`, `soft, start=untied`."""
        return self._with_control_and_start("+".join(part.label for part in self.parts))

    @cached_property
    def called(self) -> str:
        """Return what tables and pictures call it: its label, but for random groups."""
        return self._with_control_and_start("+".join(part.called for part in self.parts))

    def _with_control_and_start(self, parts: str) -> str:
        text = parts or "none"
        text += f", control={self.control}" if self.control is not None else ""
        return text + (f", start={self.begins}" if self.begins is not None else "")

    @property
    def begins(self) -> str | None:
        """Return what training begins from, as `start` names it; None for the seed's own weights."""
        return None if self.start is None else dict(self.start).get("model", "untied")

    @property
    def family(self) -> str:
        """Return the name under which tables and pictures have it: one of METHODS, `composition`, or another method."""
        if len(self.parts) > 1:
            return COMPOSITION.name
        return self.parts[0].family if self.parts else "none"

    @cached_property
    def rank(self) -> int:
        """Return the place of its family in every table: known methods, then others, then compositions."""
        ranks = {name: rank for rank, name in enumerate(METHODS)} | {COMPOSITION.name: len(METHODS) + 1}
        return ranks.get(self.family, len(METHODS))

    @property
    def without_control(self) -> "TyingSpec":
        """Return the tying that this is a control of; itself where it is none."""
        return replace(self, control=None)

    @property
    def without_start(self) -> "TyingSpec":
        return replace(self, start=None)


def recorded_spec(record: Mapping[str, Any]) -> TyingSpec | None:
    """Read the spec of a record or of a manifest's line; None where neither it nor a config is there.

    A record that was made before records held one has its config, whose parts JSON put in alphabetical order: theirs
    is the order that gives the recorded label.
    """
    if record.get("spec"):
        return TyingSpec.from_record(record["spec"])
    config = record.get("config") or {}
    if "parts" not in (config.get("tying") or {}):
        return None
    spec = TyingSpec.of(config)
    orders = (replace(spec, parts=parts) for parts in permutations(spec.parts))
    return next((ordered for ordered in orders if ordered.label == record.get("tying")), spec)


def colours(specs: Iterable[TyingSpec]) -> dict[str, str]:
    """Return the colour of each family of one picture; those without one of their own take the spare ones in turn."""
    own = {
        method.name: method.colour for method in (*METHODS.values(), COMPOSITION) if method.colour != OTHER
    }
    others = sorted({spec.family for spec in specs} - own.keys(), key=lambda name: (name in METHODS, name))
    return own | {name: SPARE[index % len(SPARE)] for index, name in enumerate(others)}


def _keys(name: str, part: Mapping[str, Any], tying: Mapping[str, Any]) -> Keys:
    """Return the keys of a part, with those that the training loop or the controller reads instead of its function."""
    values = {key: value for key, value in part.items() if key not in ("_target_", "_partial_")}
    if name in FINDERS:
        # What shares came out of it: no part of what was asked for.
        values = {"scope": part.get("scope")} | {
            key: tying.get(key) for key in ("groups", "shuffle", "strength")
        }
    elif part.get("strength") is not None:
        values |= {key: tying.get(key) for key in ("form", "init")}
    values["merge"] = tying.get("merge")
    return _sorted({key: value for key, value in values.items() if value is not None})


def _sorted(keys: Mapping[str, Any]) -> Keys:
    return tuple(
        (key, tuple(value) if isinstance(value, list | tuple) else value)
        for key, value in sorted(keys.items())
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
