"""Fingerprint the code of a run: hashes of syntax trees, read from source files. Imports no torch and none of them.

A comment, a docstring, the layout of the text, the name of the module and the version of Python change no hash.
"""

import ast
import functools
import hashlib
import importlib.machinery
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = "bench"
"""The package of this suite. Golden runs and RESULTS_VERSION guard the modules that those named here import."""

Code = dict[str, dict[str, Any]]
"""By role (model, method:<name>, task, data): {"modules": {name: hash}}, or {"unknown": why there is none}.

A name is that of a module, or of a definition in this suite.
"""

NAMED = 5
"""How many changed modules a message names."""

_INSTALLED = {"site-packages", "dist-packages"}
_STDLIB = Path(sysconfig.get_path("stdlib"))


def code_of(config: Mapping[str, Any], cost: bool = False) -> Code:
    """Return the present code of the run with this config, by role.

    For the user's own modules the hashes include the modules that they import inside the same project. Of this suite
    only the definitions that the config names count, with what they use of their own file; of installed packages
    the modules that it names.

    Args:
        cost: Leave out the roles that a measured cost does not depend on: the task and the data.
    """
    parts = config.get("tying", {}).get("parts", {})
    roles = {"model": config.get("model")} | {f"method:{name}": part for name, part in parts.items()}
    if not cost:
        data = config.get("data", {})
        roles |= {"task": config.get("task"), "data": [data.get("source"), data.get("module")]}
    return {role: code_of_section(section) for role, section in roles.items()}


def code_of_section(section: Any) -> dict[str, Any]:
    """Return one role's part of the code: that of every import path in this part of a config."""
    modules: dict[str, str] = {}
    for target in dict.fromkeys(_targets(section)):
        try:
            modules |= _modules(target)
        except UnknownCode as reason:
            return {"unknown": str(reason)}
    return {"modules": modules}


def changed_modules(recorded: Code | None, present: Code) -> list[str]:
    """Return the names of the modules that differ between a record's code and the present one.

    Roles are compared, not module names, so that a file may move. What is unknown on either side is no difference.
    """
    names: dict[str, None] = {}
    for role, code in present.items():
        now, before = code.get("modules"), (recorded or {}).get(role, {}).get("modules")
        if now is None or before is None or sorted(now.values()) == sorted(before.values()):
            continue
        added = [name for name, digest in now.items() if digest not in before.values()]
        removed = [name for name, digest in before.items() if digest not in now.values()]
        names |= dict.fromkeys(added or removed or now)
    return list(names)


def other_code(modules: Iterable[str]) -> str:
    """Return `made with other code (bench.models.gru changed)`, for messages."""
    names = sorted(set(modules))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"made with other code ({', '.join(names[:NAMED])}{more} changed)"


def _targets(section: Any) -> Iterator[str]:
    """Yield every import path in a part of a config: what Hydra instantiates, and what it looks up for that."""
    waiting = [section]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            target = part.get("_target_")
            if isinstance(target, str):
                looked_up = part.get("path") if target.startswith("hydra.utils.get_") else None
                yield looked_up if isinstance(looked_up, str) else target
            part = list(part.values())
        if isinstance(part, list):
            waiting += [inner for inner in part if isinstance(inner, dict | list)]


class UnknownCode(Exception):
    """There is no source to read; the message says why."""


class NoModule(UnknownCode):
    """There is no module of that name."""


def tree_of(module: str) -> ast.Module:
    """Return the syntax tree of a module. UnknownCode where there is no source to read."""
    path = _file(module)
    try:
        return _tree(path, _stamp(path))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise UnknownCode(f"{module} cannot be read: {' '.join(str(error).split())}") from error


def definition(target: str) -> ast.stmt | None:
    """Return the syntax tree of the class or function that an import path names.

    Returns:
        None where the path goes into a class, or where the name is no plain definition.

    Raises:
        UnknownCode: There is no source to read.
    """
    module, attribute = _split(target)
    if target != f"{module}.{attribute}":
        return None
    module, attribute = _origin(module, attribute)
    kinds = (ast.ClassDef, ast.FunctionDef)
    definitions = [n for n in tree_of(module).body if isinstance(n, kinds) and n.name == attribute]
    return definitions[0] if len(definitions) == 1 else None


def defines(target: str) -> bool:
    """Tell whether the module of an import path has the name that the path gives.

    True too where that is not known: of installed packages, and of modules that make names while they run.

    Raises:
        NoModule: There is no such module.
        UnknownCode: There is no source to read.
    """
    module, attribute = _split(target)
    module, attribute = _origin(module, attribute)
    path = _file(module)
    if _is_installed(path) or _spec(f"{module}.{attribute}") is not None:
        return True
    return not _names(module, _stamp(path)).isdisjoint({attribute, "*", "__getattr__", "globals"})


@functools.lru_cache(maxsize=256)
def _names(module: str, stamp: "_Stamp") -> frozenset[str]:
    """Return every name that a module's source gives to something; `stamp` tells one version of it from another."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


_PARSING = threading.Lock()
"""Python 3.11 counts the depth of a syntax tree for all threads together: two at once may end in a SystemError."""


@functools.lru_cache(maxsize=8)
def _tree(path: Path, stamp: "_Stamp") -> ast.Module:
    """Parse a file; `stamp` tells one version of it from another."""
    with _PARSING:
        return ast.parse(path.read_bytes())


@dataclass(frozen=True)
class _Source:
    """What is kept of a source file.

    `imports`: (level, module, names) of each import statement. `origins`: of the names that the file imports at its
    top, (level, module, name there).
    """

    digest: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    origins: Mapping[str, tuple[int, str, str]]


_Stamp = tuple[int, int] | None
_sources: dict[Path, tuple[_Stamp, _Source]] = {}
_walks: dict[tuple[str, ...], tuple[dict[Path, _Stamp], dict[str, str]]] = {}


def _stamp(path: Path) -> _Stamp:
    """Return what changes when a file is written; None where it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _modules(target: str) -> dict[str, str]:
    """Return the hashes of what defines `target`, by name. UnknownCode where there is no source to read.

    Answers are kept until one of the user's files changes. The suite's own files are read once a process: so are
    they by the process that runs are forked from.
    """
    key = (target, *sys.path)
    stamps, modules = _walks.get(key, ({}, None))
    if modules is None or any(_stamp(path) != stamp for path, stamp in stamps.items()):
        stamps, modules = {}, {}
        defined_in, attribute = _origin(*_split(target))
        for name, path in _defining_files(target).items():
            if is_own(name):
                modules[f"{name}.{attribute}"] = _own_digest(defined_in, attribute)
            else:
                stamps[path] = _stamp(path)
                modules[name] = _source(name, path).digest
        _walks[key] = stamps, modules
    return modules


@functools.cache
def _own_digest(module: str, attribute: str) -> str:
    """Return the hash of a definition of the suite with those of the same file that it uses.

    A file of the suite holds many methods or models: a new one beside it is no change of this one.
    """
    tree = tree_of(module)
    defining: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _names_defined(statement):
            defining.setdefault(name, []).append(statement)
    used: set[ast.stmt] = set()
    waiting = [attribute]
    while waiting:
        for statement in defining.pop(waiting.pop(), ()):
            used.add(statement)
            waiting += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    parts = [statement for statement in tree.body if statement in used]
    return digest(ast.Module(parts, []) if parts else tree)


def _names_defined(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a file gives a value, imports aside."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)}


def _defining_files(target: str) -> dict[str, Path]:
    """Return the source file of each module that counts for `target`, the one that it names first."""
    module, attribute = _split(target)
    path = _file(module)
    defined_in, _ = _origin(module, attribute)
    if is_own(module) or _is_installed(path):
        return {defined_in: _file(defined_in)}
    return {**_project_files(module), defined_in: _file(defined_in)}


def _split(target: str) -> tuple[str, str]:
    """Split an import path into its module and the first name in it."""
    names = target.split(".")
    if names[0] == "__main__":
        raise UnknownCode(f"{target} was typed into a shell or is in the script that was started")
    for end in range(len(names) - 1, 0, -1):
        if _spec(module := ".".join(names[:end])) is not None:
            return module, names[end]
    raise NoModule(f"there is no module {target.rpartition('.')[0] or target}")


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of a module as the import system finds it, without importing its parents."""
    above, _, last = name.rpartition(".")
    folders = None
    if above:
        parent = _spec(above)
        if parent is None or parent.submodule_search_locations is None:
            return None
        folders = list(parent.submodule_search_locations)
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, folders)
        except KeyError:
            # A folder without __init__.py below a package: its finder wants the package imported.
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [
                str(inside) for folder in folders or () if (inside := Path(folder, last)).is_dir()
            ]
        except (AttributeError, ImportError, ValueError):
            spec = None
        if spec is not None:
            return spec
    return None


def _file(module: str) -> Path:
    """Return the source file of a module that exists."""
    spec = _spec(module)
    origin = spec.origin if spec else None
    if origin is None or not spec.has_location:
        raise UnknownCode(f"{module} is built in or a folder without code")
    if not origin.endswith(tuple(importlib.machinery.SOURCE_SUFFIXES)):
        raise UnknownCode(f"{module} is compiled: {Path(origin).name} is no Python source")
    return Path(origin)


def _has_source(module: str) -> bool:
    try:
        _file(module)
    except UnknownCode:
        return False
    return True


def is_own(module: str) -> bool:
    """Tell whether a module belongs to this suite."""
    return module == OWN or module.startswith(f"{OWN}.")


def _is_installed(path: Path) -> bool:
    """Tell whether a file belongs to Python or to an installed package, whose versions a record holds."""
    return not _INSTALLED.isdisjoint(path.parts) or path.is_relative_to(_STDLIB)


def _origin(module: str, attribute: str) -> tuple[str, str]:
    """Return the module that defines the attribute, which `module` may only hand on, and its name there."""
    seen = set()
    while (module, attribute) not in seen:
        seen.add((module, attribute))
        path = _file(module)
        imported = _source(module, path).origins.get(attribute)
        if imported is None:
            break
        level, base, name = imported
        base = _absolute(module, path, level, base)
        if not _has_source(base) or _spec(f"{base}.{name}") is not None:
            break
        module, attribute = base, name
    return module, attribute


def _project_files(module: str) -> dict[str, Path]:
    """Return the source files of `module` and of all that it imports inside the project it belongs to.

    The project is the folder that the module's top-level package or file lies in.
    """
    project = _folder(module.partition(".")[0])
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files:
            continue
        try:
            path = files[name] = _file(name)
        except UnknownCode:
            if name == module:
                raise
            continue
        waiting += [imported for imported in _imported(name, path) if _is_inside(imported, project)]
        waiting += [parent] if (parent := name.rpartition(".")[0]) else []  # its __init__.py runs first
    return files


def _folder(top: str) -> Path:
    """Return the folder that a top-level module or package lies in."""
    spec = _spec(top)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return _file(top).parent


def _imported(module: str, path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file may import: of `from a import b` both a and a.b."""
    for level, base, names in _source(module, path).imports:
        base = _absolute(module, path, level, base)
        yield base
        yield from (f"{base}.{name}" for name in names)


def _absolute(module: str, path: Path, level: int, base: str) -> str:
    """Return the full name of what a file imports; level: how many dots stood before it."""
    if level == 0:
        return base
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *([base] if base else [])])


def _is_inside(module: str, project: Path) -> bool:
    if not module or is_own(module) or not _has_source(module):
        return False
    is_near = _folder(module.partition(".")[0]).is_relative_to(project)
    return is_near and not _is_installed(_file(module))


def _source(module: str, path: Path) -> _Source:
    stamp = None if is_own(module) else _stamp(path)
    cached = _sources.get(path)
    if cached is None or cached[0] != stamp:
        tree = tree_of(module)
        cached = _sources[path] = stamp, _Source(digest(tree), tuple(_statements(tree)), _origins(tree))
    return cached[1]


def _statements(tree: ast.Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def _origins(tree: ast.Module) -> dict[str, tuple[int, str, str]]:
    return {
        alias.asname or alias.name: (node.level, node.module or "", alias.name)
        for node in ast.walk(tree)  # a package that loads its names late tells them under `if TYPE_CHECKING`
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def digest(tree: ast.AST) -> str:
    """Return a short hash of what a syntax tree does.

    Left out are positions, docstrings and other statements that are a text alone, `pass`, and fields that are empty:
    versions of Python differ in which of those a tree has.
    """
    text: list[str] = []
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            text.append(node)
        else:
            waiting += reversed(list(_written(node)))
    return hashlib.sha256("".join(text).encode()).hexdigest()[:12]


_UNWRITTEN = {"ctx", "kind", "type_comment", "type_ignores"}


def _written(node: Any) -> Iterator[Any]:
    """Yield the text of a node, with nodes in the place of theirs."""
    if isinstance(node, ast.Constant):
        yield f"{type(node.value).__name__}:{ascii(node.value)};"
    elif isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if isinstance(value, list):
                value = _joined(value) if isinstance(node, ast.JoinedStr) else list(filter(_acts, value))
            if name not in _UNWRITTEN and value is not None and value != []:
                yield f"{name}="
                yield value
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield item
            yield ","
        yield "]"
    else:
        yield f"{ascii(node)};"


def _acts(node: Any) -> bool:
    is_text = isinstance(node, ast.Expr) and _is_text(node.value)
    return not isinstance(node, ast.Pass) and not is_text


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _joined(parts: list[Any]) -> list[Any]:
    """Return the parts of an f-string, neighbouring texts as one and none that is empty."""
    joined: list[Any] = []
    for part in parts:
        if joined and _is_text(part) and _is_text(joined[-1]):
            joined[-1] = ast.Constant(joined[-1].value + part.value)
        else:
            joined.append(part)
    return [part for part in joined if not _is_text(part) or part.value]
