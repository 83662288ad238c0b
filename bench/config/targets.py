"""Check what a config names as _target_ against its source, without importing it: does it exist, does it take the keys?

A run would find out only after its folder is made and torch is loaded.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.runs.code import NoModule, UnknownCode, defines, definition, tree_of
from bench.tying.errors import BadInput, spelled_like

HYDRAS_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_"}

SHAPES = {
    "image": {"in_channels", "num_classes"},
    "text": {"vocab_size"},
    "labelled_text": {"vocab_size", "num_classes"},
    "series": {"channels"},
}
"""What a network is told of its data, by the kind of data."""

HANDED = {
    "task.module": {"model", "plan", "optimizer", "weight_decay", "form", "output_precision", "meta"},
    "logger": {"folder", "request"},
}
"""What the bench itself hands to a part of a config: no key of it may have that name."""


@dataclass(frozen=True)
class Parameters:
    """Names of the parameters of a class or function, and those without a default."""

    names: tuple[str, ...]
    required: frozenset[str]


def check_targets(config: Mapping[str, Any]) -> None:
    """Refuse a model, method, task or logger that does not exist or does not take its keys.

    What cannot be told from the source passes, and so does what has **kwargs.

    Args:
        config: Composed and checked against the schema.

    Raises:
        BadInput: The key, what is allowed in its place.
    """
    logger = {key: value for key, value in config["logger"].items() if key != "needs"}
    sections = {"model": config["model"], "task.module": config["task"]["module"], "logger": logger}
    sections |= {f"tying.parts.{name}": part for name, part in config["tying"]["parts"].items()}
    parameters = {path: _parameters_of_section(path, section) for path, section in sections.items()}
    _check_network(config, parameters["model"])
    _check_installed(config["logger"])
    handed = {"model": SHAPES[config["task"]["kind"]] | {"dropout"}, **HANDED}
    for path, section in sections.items():
        if parameters[path] is not None:
            if lacking := HANDED.get(path, set()) - {*parameters[path].names}:
                raise BadInput(
                    f"{path}._target_={section['_target_']} is not allowed: it takes no {', '.join(sorted(lacking))}, "
                    "which the bench hands to it; leave it as in conf/"
                )
            allowed = [name for name in parameters[path].names if name not in handed.get(path, {"model"})]
            _check_keys(path, section, sorted(allowed))
    if config["model"]["_target_"].startswith("bench.models.transformer."):
        _check_architecture(config["model"].get("architecture"))


def _parameters_of_section(path: str, section: Mapping[str, Any]) -> Parameters | None:
    target = section["_target_"]
    try:
        if not defines(target):
            module, _, name = target.rpartition(".")
            raise BadInput(f"{path}._target_={target} is not allowed: there is no {name} in {module}")
        return None if "_args_" in section else parameters_of(target)
    except NoModule as error:
        raise BadInput(
            f"{path}._target_={target} is not allowed: {error}; give package.module.name"
        ) from error
    except UnknownCode:
        return None


def _check_keys(path: str, section: Mapping[str, Any], allowed: Sequence[str]) -> None:
    from bench.config.refusals import unknown_key  # here: pydantic takes 50 ms, as in run_config.py

    for key in sorted({*section} - HYDRAS_KEYS - {*allowed}):
        raise BadInput(unknown_key(f"{path}.{key}", allowed))


def _check_installed(logger: Mapping[str, Any]) -> None:
    """Refuse a logger whose package is not there."""
    package = logger.get("needs")
    if package and importlib.util.find_spec(package) is None:
        raise BadInput(
            f"logger={package} needs the package {package}: pip install {package}, or set logger=csv"
        )


def _check_network(config: Mapping[str, Any], parameters: Parameters | None) -> None:
    """Refuse a network that is made for data of another kind."""
    if parameters is None:
        return
    kind = config["task"]["kind"]
    handed = SHAPES[kind] | {"dropout"}
    target = config["model"]["_target_"].rpartition(".")[2]
    missing = parameters.required - handed - {*config["model"]}
    if refused := handed - {*parameters.names}:
        raise BadInput(
            f"{target} is no model for task={config['task']['name']}: a network for {kind} data is told "
            f"{', '.join(sorted(handed))}, and this one takes no {', '.join(sorted(refused))}; choose another model"
        )
    if missing:
        raise BadInput(
            f"{target} needs {', '.join(sorted(missing))}, which {kind} data do not tell: set it as "
            f"+model.{min(missing)}=..., or choose another model"
        )


def _check_architecture(architecture: str | None) -> None:
    known = architectures()
    if architecture is None or "gpt2" not in known or architecture in known:
        return
    near = spelled_like(architecture, known)
    advice = (
        f"did you mean {near}?" if near else "set gpt2 or llama for a language model, bert for a classifier"
    )
    raise BadInput(f"model.architecture={architecture} is unknown to transformers: {advice}")


@functools.cache
def architectures() -> frozenset[str]:
    """Return every model_type in the tables of the installed transformers; empty where it has moved them."""
    names: set[str] = set()
    for module in ("auto_mappings", "configuration_auto"):
        try:
            tree = tree_of(f"transformers.models.auto.{module}")
        except UnknownCode:
            continue
        names |= {key for key, value in _pairs(tree) if value.endswith("Config")}
    return frozenset(names)


def _pairs(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the pairs of texts in dicts and in tuples."""
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            pairs = [node.elts]
        for pair in pairs:
            if all(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in pair):
                yield tuple(part.value for part in pair)


def parameters_of(target: str) -> Parameters | None:
    """Return the parameters of a class or function from its source; None where it takes any or they cannot be told."""
    node = definition(target)
    while isinstance(node, ast.ClassDef):
        methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
        if node.decorator_list or node.keywords or "__new__" in methods:
            return None
        if "__init__" in methods:
            return _parameters(methods["__init__"], skipped=1)
        node = _base(node, target)
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        return _parameters(node, skipped=0)
    return None


@functools.cache
def scores_of(target: str) -> frozenset[str]:
    """Return the names that a task class scores by: the keys in its `score`, its own or inherited; empty for none."""
    try:
        node = definition(target)
        while isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "score":
                    keys = (
                        key for inner in ast.walk(part) if isinstance(inner, ast.Dict) for key in inner.keys
                    )
                    return frozenset(key.value for key in keys if isinstance(key, ast.Constant))
            node = _base(node, target)
    except UnknownCode:  # `check_targets` says that there is no such class
        pass
    return frozenset()


def _base(node: ast.ClassDef, target: str) -> ast.stmt | None:
    """Return the one class that a class inherits from, in the same module or imported by name; None for any other."""
    base = node.bases[0] if len(node.bases) == 1 else None
    return definition(f"{target.rpartition('.')[0]}.{base.id}") if isinstance(base, ast.Name) else None


def _parameters(function: ast.FunctionDef, skipped: int) -> Parameters | None:
    arguments = function.args
    if arguments.kwarg is not None:
        return None
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    with_default = {*positional[len(positional) - len(arguments.defaults) :]} if arguments.defaults else set()
    named = [argument.arg for argument in arguments.kwonlyargs]
    with_default |= {
        name for name, default in zip(named, arguments.kw_defaults, strict=True) if default is not None
    }
    names = (*positional[skipped:], *named)
    return Parameters(names, frozenset(names) - with_default)
