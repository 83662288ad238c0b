"""Every file of conf/claims, and what a claim file must be."""

import inspect

import pytest
import yaml
from hydra.utils import get_method

from bench.claims import claim
from bench.runs import machine
from bench.tying.errors import BadInput

FILES = claim.files(claim.FOLDER)
GOOD = {
    "id": "C1",
    "statement": "Said.",
    "source": "someone",
    "kind": "empirical",
    "sweep": "quick",
    "test": {"_target_": "bench.claims.checks.arithmetic.albert"},
    "rule": {"supported": "a > 0", "refuted": "a < 0"},
    "overall": None,
    "reduced": None,
    "untestable": None,
    "decided_by": None,
    "published": None,
}


def test_no_claim_is_left_out():
    assert [claim.read(path).id for path in FILES] == [f"C{number}" for number in range(1, 26)]
    assert [path.stem for path in FILES] == [f"c{number:02}" for number in range(1, 26)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_test_takes_the_arguments_that_its_claim_gives(path):
    found = claim.read(path)
    if found.test is None:
        assert found.untestable
        return
    arguments = {key: value for key, value in found.test.items() if key != "_target_"}
    inspect.signature(get_method(found.test["_target_"])).bind(*[None] * bool(found.sweeps), **arguments)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_that_a_claim_names_is_a_preset(path):
    for name in claim.read(path).sweeps:
        assert (machine.CONF / "sweep" / f"{name}.yaml").exists(), name


def written(folder, content):
    path = folder / "c01.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_what_is_there_is_read(tmp_path):
    found = claim.read(written(tmp_path, GOOD))
    assert (found.id, found.sweeps, found.overall) == ("C1", ("quick",), claim.EVERY)
    assert found.command == "make sweep SWEEP=quick && make claims ARGS='--only C1'"


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(BadInput, match=f"claim file c01.yaml: no key `{key}`"):
        claim.read(written(tmp_path, {k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "rumour"}, "`kind` is 'rumour'"),
        ({"statement": " "}, "`statement` is ' '"),
        ({"test": "bench.claims.checks.arithmetic.albert"}, "`test` must be"),
        ({"test": None}, "say in `untestable` what is missing"),
        ({"rule": None}, "`rule` must be"),
        ({"rule": {"supported": "a > 0"}}, "`rule` must be"),
        ({"rule": {"supported": "a >", "refuted": "a < 0"}}, "bad expression 'a >'"),
        ({"overall": {"supported": "import os", "refuted": "a < 0"}}, "bad expression 'import os'"),
        ({"sweep": 7}, "`sweep` is 7"),
        ({"note": "x"}, "unknown key `note`"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, changes, said):
    with pytest.raises(BadInput) as caught:
        claim.read(written(tmp_path, GOOD | changes))
    assert str(caught.value).startswith("claim file c01.yaml: ") and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(BadInput, match="^claim file c01.yaml: [^\n]*$"):
        claim.read(written(tmp_path, text))


def test_a_folder_without_claims_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no claim file"):
        claim.files(tmp_path)
