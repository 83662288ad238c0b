"""Which edits change the code that a run is made of, and what a sweep then does. Nothing trains here."""

import ast
import itertools
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from cell_maker import made

from bench.report.notes import code_notes
from bench.runs import code as code_fingerprint
from bench.runs.code import changed_modules, code_of, code_of_section, digest, other_code
from bench.runs.identity import RECORDED_NAMES
from bench.runs.store import read_json, write_json
from bench.sweep import sweep
from bench.sweep.dry_run import report as dry_run
from bench.sweep.run_or_load import ensure_cost, ensure_run
from bench.sweep.state import COST, state_of
from bench.sweep.status import report as status

FILES = {
    "model": """
        from torch import nn
        import shop_parts
        from shop.layers import block

        class Net(nn.Module):
            "A network."

            def forward(self, x):
                # the whole of it
                return block(x) + 1
    """,
    "layers": "from .inner import scale\n\ndef block(x):\n    return scale * x\n",
    "inner": "scale = 2\n",
    "method": "def every(model, scope):\n    return 1\n",
    "task": "class Loss:\n    def loss(self, x):\n        return x\n",
    "unused": "nothing = 1\n",
}
CONF = Path(__file__).parents[2] / "conf"
CHOICES = [f"{group}={path.stem}" for group in ("task", "tying") for path in CONF.glob(f"{group}/*.yaml")]
NAMES = itertools.count()


class Shop:
    """A user's project on the path: a package `shop`, and a module beside it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "shop").mkdir()
        (folder / "shop" / "__init__.py").write_text("")
        (folder / "shop_parts.py").write_text("bias = 0\n")
        for name, text in FILES.items():
            self.path(name).write_text(textwrap.dedent(text))

    def path(self, name):
        return self.folder / "shop" / f"{name}.py" if name != "shop_parts" else self.folder / "shop_parts.py"

    def edit(self, name, before, after):
        text = self.path(name).read_text()
        assert before in text
        self.path(name).write_text(text.replace(before, after))
        later = self.path(name).stat().st_mtime_ns + next(NAMES) + 1_000_000
        os.utime(self.path(name), ns=(later, later))


@pytest.fixture
def shop(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return Shop(folder)


MINE = (
    "model._target_=shop.model.Net",
    "tying=cross_layer",
    "tying.parts.cross_layer._target_=shop.method.every",
    "task.module._target_=shop.task.Loss",
    "sweep.name=mine",
)


@pytest.fixture
def cells(shop, tmp_path, monkeypatch):
    """Two runs of the shop's model, and their cost."""
    monkeypatch.setattr(sweep, "preload", lambda modules: None)
    cell = made(*MINE, f"runs={tmp_path / 'runs'}")
    return [cell, cell.altered(seed=2)]


class Recording:
    """An engine that runs nothing: it records each cell as done."""

    def __init__(self):
        self.done = []

    def check(self, cells):
        pass

    def map(self, ensure, cells, started):
        for cell in cells:
            started(cell)
            self.done.append(ensure.name)
            ensure._remove_stale(cell)
            yield cell, ensure.record_ending(cell, "done", None)


def swept(cells, **options):
    """How many runs and costs a sweep of the cells makes."""
    engine = Recording()
    sweep.run_sweep([replace(cell, options=cell.options | options) for cell in cells], engine, sweep=True)
    return engine.done.count("record.json"), engine.done.count("cost.json")


EDITS = {
    "forward": ("model", "block(x) + 1", "block(x) + 3", "shop.model", (2, 1)),
    "an imported module of the package": ("layers", "scale * x", "scale * x * x", "shop.layers", (2, 1)),
    "what that one imports": ("inner", "scale = 2", "scale = 3", "shop.inner", (2, 1)),
    "a module beside the package": ("shop_parts", "bias = 0", "bias = 1", "shop_parts", (2, 1)),
    "the method": ("method", "return 1", "return 2", "shop.method", (2, 1)),
    "the loss": ("task", "return x", "return 2 * x", "shop.task", (2, 0)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_an_edit_of_the_code_can_change_is_made_again_and_one_line_says_why(cells, shop, capsys, edit):
    name, before, after, module, again = EDITS[edit]
    assert swept(cells) == (2, 1) and swept(cells) == (0, 0)
    shop.edit(name, before, after)
    capsys.readouterr()
    text, state = dry_run(cells), status(cells[0].runs, ["mine"])
    assert swept(cells) == again
    err = capsys.readouterr().err
    line = f"2 recorded runs made with other code ({module} changed): made again; reuse=true accepts"
    assert err.count(line) == 1 and err.count(f"1 recorded cost made with other code ({module} ") == again[1]
    # What would happen was said before.
    assert f"2 recorded runs made with other code ({module} changed): to make again; reuse=true" in text
    assert f"1 measurement, each alone on the machine, {again[1]} to make" in text
    assert "2 queued" in state.splitlines()[0] and f"({module} changed), counted as" in " ".join(
        state.split()
    )
    # It now is of the present code, and the identity is what it was.
    assert swept(cells) == (0, 0)
    assert "nothing to run" in dry_run(cells)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("model", "# the whole of it", "# all of it, and\n        # more"),
        ("model", '"A network."', '"""A longer text\n\n    about it."""'),
        ("model", '    "A network."\n', ""),
        ("model", "block(x) + 1", "(block( x )\n            + 1)"),
        ("layers", "def block", '"""What the names mean."""\n\n\ndef block'),
        ("unused", "nothing = 1", "nothing = 2"),
    ],
)
def test_comments_docstrings_layout_and_what_is_not_imported_change_nothing(cells, shop, name, before, after):
    assert swept(cells) == (2, 1)
    shop.edit(name, before, after)
    assert swept(cells) == (0, 0) and "nothing to run" in dry_run(cells)


def test_reuse_accepts_what_is_recorded_as_long_as_it_is_given(cells, shop, capsys):
    swept(cells)
    shop.edit("model", "+ 1", "+ 3")
    capsys.readouterr()
    assert swept(cells, reuse=True) == (0, 0) and "other code" not in capsys.readouterr().err
    reusing = [replace(cell, options=cell.options | {"reuse": True}) for cell in cells]
    assert "nothing to run" in dry_run(reusing)
    assert swept(cells) == (2, 1)


def test_records_without_code_are_accepted(cells, shop):
    swept(cells)
    for cell in cells:
        record = read_json(ensure_run.path(cell))
        del record["code"]
        write_json(ensure_run.path(cell), record)
    shop.edit("model", "+ 1", "+ 3")
    assert swept(cells) == (0, 1)


def test_a_file_that_moved_is_the_same_code(cells, shop):
    swept(cells)
    shop.path("unused").write_text(shop.path("model").read_text())
    moved = cells[0].altered(model={"_target_": "shop.unused.Net"})
    recorded = read_json(ensure_run.path(cells[0]))["code"]
    assert recorded["model"]["modules"].keys() != code_of(moved.config)["model"]["modules"].keys()
    assert changed_modules(recorded, code_of(moved.config)) == []
    shop.edit("unused", "+ 1", "+ 3")
    assert changed_modules(recorded, code_of(moved.config)) == ["shop.unused"]


def test_a_checkpoint_of_other_code_is_not_gone_on_from(cells, shop):
    cell = cells[0]
    ensure_run._write_request(cell, cell.folder)
    checkpoint = cell.folder / "last.ckpt"
    checkpoint.touch()
    write_json(cell.folder / "attempts.json", {"attempts": [{"started": 1.0, "host": "alpha"}]})
    assert ensure_run._remove_stale(cell) and checkpoint.exists()
    assert "last checkpoint" in state_of(cell.folder, "record.json", cell.config).reason
    shop.edit("model", "+ 1", "+ 3")
    assert "begins anew" in state_of(cell.folder, "record.json", cell.config).reason
    assert (
        ensure_run._remove_stale(replace(cell, options=cell.options | {"reuse": True}))
        and checkpoint.exists()
    )
    assert ensure_run._remove_stale(cell) and not checkpoint.exists()


def test_a_job_that_never_began_is_not_answered_with_the_record_of_other_code(cells, shop):
    class Lost(Recording):
        def map(self, ensure, cells, started):
            for cell in cells:
                yield cell, ensure.record_loss(cell, "the job never began")

    swept(cells)
    shop.edit("model", "+ 1", "+ 3")
    _, records = sweep.run_sweep(cells, Lost())
    assert [record["status"] for record in records] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("__main__.Net", "typed into a shell"),
        ("absent.Net", "there is no module absent"),
        ("math.sqrt", "compiled|built in"),
        ("builtins.dict", "built in"),
        ("shop.broken.Net", "cannot be read"),
    ],
)
def test_code_that_cannot_be_found_is_said_and_no_difference(cells, shop, target, reason):
    shop.path("broken").write_text("def net(:\n")
    swept(cells)
    unknown = [cell.altered(model={"_target_": target}) for cell in cells]
    assert swept(unknown) == (2, 1) and swept(unknown) == (0, 0)
    record = read_json(ensure_run.path(unknown[0]))
    assert any(word in record["code"]["model"]["unknown"] for word in reason.split("|"))
    assert record["code"]["method:cross_layer"]["modules"].keys() == {"shop", "shop.method"}
    (note,) = code_notes("Runs", [record])
    assert note.startswith("Code not known for 1 of 1 runs, of the model: ")
    known = code_of(cells[0].config)
    assert changed_modules(record["code"], known) == changed_modules(known, record["code"]) == []


def test_tables_say_of_how_many_codes_their_rows_are(cells, shop):
    old = {"code": code_of(cells[0].config)}
    assert code_notes("Runs", [old, old]) == []
    shop.edit("inner", "= 2", "= 3")
    new = {"code": code_of(cells[0].config)}
    assert code_notes("Runs", [old, new, new, {}]) == [
        "Runs were made with more than one code of shop.inner (2 and 1 runs).",
        "Code not recorded for 1 of 4 runs.",
    ]


def test_of_this_suite_only_what_is_named_counts():
    code = code_of(made("task=text_gru", "tying=embedding_top_k").config)
    assert {role: sorted(part["modules"]) for role, part in code.items()} == {
        "model": ["bench.models.gru.GRULanguageModel"],
        "method:embedding": ["bench.tying.methods.embedding"],
        "method:top_k": ["bench.tying.methods.top_k"],
        "task": ["bench.tasks.language_modeling.LanguageModeling"],
        "data": ["bench.data.sources.pydocs", "bench.data.text.TextData"],
    }
    handed_on = code_of_section({"_target_": "bench.tying.cycle"})
    assert handed_on["modules"].keys() == {"bench.tying.methods.cycle"}


OWN_FILE = """
SCALE = 2
def helper(x): return SCALE * x
def method(x): return helper(x) + 1
class Other: pass
"""


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("class Other: pass", "class Other: width = 3", False),
        ("class Other: pass", "class Other: pass\ndef another_method(x): return x", False),
        ("helper(x) + 1", "helper(x) + 2", True),
        ("return SCALE * x", "return SCALE * x * x", True),
        ("SCALE = 2", "SCALE = 3", True),
    ],
)
def test_a_definition_of_the_suite_counts_with_what_it_uses_and_nothing_else(monkeypatch, old, new, changes):
    digests = []
    for text in (OWN_FILE, OWN_FILE.replace(old, new)):
        monkeypatch.setattr(code_fingerprint, "tree_of", lambda module, text=text: ast.parse(text))
        digests.append(code_fingerprint._own_digest.__wrapped__("bench.any", "method"))
    assert (digests[0] != digests[1]) == changes


def test_every_choice_of_conf_has_code_that_is_known():
    labels = "tying.grouping=[0,0,0,1,1,1,2,2,2]"
    for choice in CHOICES:
        given = [labels] if choice == "tying=grouped" else []
        assert all(part["modules"] for part in code_of(made(choice, *given).config).values()), choice


def test_nothing_is_imported_to_be_read(shop):
    shop.path("__init__").write_text("raise RuntimeError('imported')\n")
    shop.path("layers").write_text("raise RuntimeError('imported')\n")
    (shop.folder / "shop" / "deep").mkdir()  # without __init__.py
    (shop.folder / "shop" / "deep" / "net.py").write_text("class Net: pass\n")
    code = (
        "import sys; from bench.runs.code import code_of_section\n"
        "targets = ['shop.model.Net', 'shop.deep.net.Net']\n"
        "print(sorted(code_of_section([{'_target_': target} for target in targets])['modules']))\n"
        "print({'torch', 'shop', 'shop_parts'} & {*sys.modules})"
    )
    path = os.pathsep.join([str(shop.folder), os.getcwd()])
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert out.stderr == ""
    assert out.stdout.splitlines() == [
        "['shop', 'shop.deep.net', 'shop.layers', 'shop.model', 'shop_parts']",
        "set()",
    ]


SAMPLE = '''
"""Text."""
from __future__ import annotations
def f(a, *, b=None, **c) -> int:
    """Text."""
    global d, e
    match a:
        case [1, *_] | None: return f"{a!r:>{b}} and" " more" f"{c=}"
        case _: pass
    async def g(): return [x async for x in h if x] or {**c, "k": 1j, 2: b"", 3: "\\U0001fae8é"}
    try: x: int = 1_000
    except* (A, B): raise
    return lambda y, /: (y := -1.5) @ ...
class C(D, metaclass=E):
    n = 1
    """Text."""
'''


def test_the_hash_is_that_of_every_version_of_python():
    """Written down here: the versions differ in which empty fields a tree has, and in which characters print."""
    assert digest(ast.parse(SAMPLE)) == "a2214e38e445"


def test_an_empty_field_of_a_newer_python_changes_nothing():
    tree = ast.parse(SAMPLE)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node._fields = (*type(node)._fields, "type_params")
            node.type_params = []
    assert digest(tree) == digest(ast.parse(SAMPLE))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("def f(*, a, b=1): return a", "def f(*, a=1, b): return a"),
        ("def f():\n global a, b\n a = 1", "def f():\n global ab\n a = 1"),
        ("{**a, 'b': 1}", "{'b': 1, **a}"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = f'{a}b'", "x = f'b{a}'"),
        ("x = a - (b - c)", "x = a - b - c"),
        ("from a import b", "from a import b as c"),
        ("from . import b", "from .. import b"),
        ("f(a, b)", "f(a, c=b)"),
        ("return_ = None", "return_ = ..."),
        ("x = 'text'", "x = ''"),
    ],
)
def test_what_acts_differently_has_another_hash(one, other):
    assert digest(ast.parse(one)) != digest(ast.parse(other))


def test_a_message_names_some_modules_and_counts_the_rest():
    assert other_code(["b", "a", "b"]) == "made with other code (a, b changed)"
    assert (
        other_code(f"m{n}" for n in range(9))
        == "made with other code (m0, m1, m2, m3, m4 and 4 more changed)"
    )


def test_a_thousand_cells_read_the_files_once(cells, monkeypatch):
    code_of(cells[0].config)
    monkeypatch.setattr(code_fingerprint.ast, "parse", lambda text: pytest.fail("it is known already"))
    for seed in range(1000):
        code_of(cells[0].altered(seed=seed).config)


def test_a_cost_is_of_the_code_of_model_and_method_alone(cells):
    assert set(ensure_cost.code(cells[0])) == {"model", "method:cross_layer"}
    swept(cells)
    record = read_json(ensure_cost.path(cells[0]))
    assert set(record["code"]) == {"model", "method:cross_layer"}
    assert state_of(ensure_cost.path(cells[0]).parent, COST, cells[0].config).status == "done"


def test_a_path_that_changed_leaves_a_run_its_identity(monkeypatch):
    cell = made("tying=cross_layer")
    moved = cell.altered(
        model={"_target_": "bench.somewhere.Net"},
        tying={
            "parts": {
                "cross_layer": {**cell.config["tying"]["parts"]["cross_layer"], "_target_": "bench.new.f"}
            }
        },
    )
    assert len({cell.id, moved.id}) == len({cell.cost, moved.cost}) == 2
    model = cell.config["model"]["_target_"]
    monkeypatch.setitem(RECORDED_NAMES, "bench.somewhere.Net", RECORDED_NAMES.get(model, model))
    monkeypatch.setitem(RECORDED_NAMES, "bench.new.f", RECORDED_NAMES["bench.tying.methods.cross_layer"])
    moved = replace(moved)  # what it has worked out it keeps
    assert (moved.id, moved.group, moved.cost) == (cell.id, cell.group, cell.cost)


def test_a_recorded_failure_says_when_it_was_made():
    failed, older = {"status": "failed", "ended_at": 1e9}, {"status": "failed"}
    assert sweep.recorded_before([failed], began=1e9) == ""
    assert sweep.recorded_before([failed], began=2e9).startswith(" (recorded on 2001-09-")
    assert sweep.recorded_before([older], began=2e9) == " (recorded earlier)"
    two = sweep.recorded_before([failed, older, {"ended_at": 3e9}], began=2e9)
    assert two.startswith(" (2 of them recorded on 2001-09-")
