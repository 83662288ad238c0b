"""Hashes of the suite's files against git's own, and of the rules of claims."""

import os
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.runs import machine, sources

NAMES = st.text("ab.-_0", min_size=1, max_size=4).filter(lambda name: not name.startswith("."))
FOLDERS = st.recursive(
    st.binary(max_size=8), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)


def written(folder, content):
    for name, inner in content.items():
        if isinstance(inner, dict):
            (folder / name).mkdir()
            written(folder / name, inner)
        else:
            (folder / name).write_bytes(inner)


def git(folder, *words):
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    made = subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return made.stdout.strip()


@settings(deadline=None, max_examples=12)
@given(content=st.dictionaries(NAMES, FOLDERS, max_size=4))
def test_a_folder_hashes_as_git_hashes_it(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("tree")
    written(folder, content)
    git(folder, "init", "-q")
    git(folder, "add", "-A", ".")
    assert sources.tree_hash(folder) == git(folder, "write-tree")


def test_caches_and_hidden_files_count_for_nothing_and_every_other_file_does(tmp_path):
    written(tmp_path, {"a.py": b"1", "inner": {"b.py": b"2"}})
    before = sources.tree_hash(tmp_path)
    written(tmp_path, {".swap": b"3", "__pycache__": {"a.pyc": b"4"}, "empty": {}})
    assert sources.tree_hash(tmp_path) == before
    (tmp_path / "inner" / "b.py").write_bytes(b"5")
    assert sources.tree_hash(tmp_path) != before
    assert sources.tree_hash(tmp_path, frozenset({"inner"})) not in (before, sources.tree_hash(tmp_path))


@pytest.mark.skipif(
    machine.provenance()["dirty"] is not False, reason="files differ from the commit, or no git"
)
def test_a_checkout_without_edits_has_the_trees_of_its_commit():
    assert sources.trees() == {
        name: git(machine.ROOT, "rev-parse", f"HEAD:{name}") for name in ("bench", "conf")
    }


def test_a_sweep_has_the_rules_of_the_claims_that_name_it(tmp_path, monkeypatch):
    claims = tmp_path / "claims"
    claims.mkdir()
    rule = {"supported": "a > 0", "contradicted": "a < 0"}
    one = {"id": "C1", "sweep": "first", "test": {"_target_": "f"}, "rule": rule, "overall": None}
    many = {**one, "id": "C2", "sweep": ["first", "second"], "rule": {**rule, "supported": "a > 1"}}
    for number, claim in enumerate((one, many, {**one, "id": "C3", "sweep": None})):
        (claims / f"c{number}.yaml").write_text(yaml.safe_dump(claim))
    (claims / "c9.yaml").write_text("a: [")
    monkeypatch.setattr(machine, "CONF", tmp_path)
    sources.rules.cache_clear()
    try:
        found = sources.rules("first")
        assert found == {"C1": sources.rule_hash(one), "C2": sources.rule_hash(many)}
        assert found["C1"] != found["C2"] and sources.rules("second") == {"C2": found["C2"]}
        assert sources.rules("third") == sources.rules(None) == {}
    finally:
        sources.rules.cache_clear()


def test_a_rule_has_one_hash_whatever_else_its_file_says():
    rule = {"test": {"_target_": "f", "by": ["a"]}, "rule": {"supported": "a > 0"}, "overall": None}
    assert sources.rule_hash(rule) == sources.rule_hash({**rule, "statement": "said otherwise"})
    for key, value in (
        ("test", {"_target_": "f", "by": ["b"]}),
        ("rule", None),
        ("overall", {"supported": "b"}),
    ):
        assert sources.rule_hash({**rule, key: value}) != sources.rule_hash(rule)
