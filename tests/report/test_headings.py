"""What stands above a panel: words that tell its section from the others, and no key of a config."""

import re
from pathlib import Path

import pytest
import record_maker as made

from bench.analysis import archive
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.report.pages import recorded_report
from bench.report.plots.headings import distinctions, in_words, titles

RESULTS = Path(__file__).parents[2] / "results"
CONFIG_KEY = re.compile(r"=|\b[a-z_]+\.[a-z_]+\b|data [0-9a-f]{6}\b")


@pytest.mark.parametrize("name", archive.archived_names(RESULTS))
def test_committed_sections_are_told_apart_in_words(name, tmp_path):
    for task in recorded_report(archive.load(tmp_path, RESULTS, name), tmp_path).tasks:
        names = titles(task.sections)
        assert len(set(names.values())) == len(task.sections)
        assert not [title for title in names.values() if CONFIG_KEY.search(title)]
        assert all(title.startswith(f"{section.task} on {section.data}") for section, title in names.items())


def varied(folder: Path, *configs: dict) -> list:
    lines, records = [], []
    for at, config in enumerate(configs):
        for tying in ("none", "cross_layer"):
            line = made.entry(tying)
            line |= {"id": f"{line['id']}-{at}", "cell": f"{line['cell']}-{at}"}
            lines.append(line)
            records.append(made.record(line, config=config))
    made.write_sweep(folder / "runs", lines, records)
    return sections(read_sweep(folder / "runs", "quick")[0])


def test_the_fewest_settings_tell_sections_apart(tmp_path):
    sizes = [{"model": {"width": width, "depth": depth}} for width in (1000, 2000) for depth in (2, 3)]
    by_both = set(distinctions(varied(tmp_path / "both", *sizes)).values())
    assert by_both == {f"depth {depth}, width {width}" for depth in (2, 3) for width in ("1,000", "2,000")}
    assert set(distinctions(varied(tmp_path / "one", sizes[0], sizes[3])).values()) == {"depth 2", "depth 3"}
    assert list(distinctions(varied(tmp_path / "alone", sizes[0])).values()) == [""]


def test_what_the_sweep_varied_tells_sections_apart_and_no_rate_that_all_arms_chose():
    """Of one section all arms have one rate, each by its search; that is no setting of the section."""
    report = recorded_report(archive.read(archive.path_of(RESULTS, "trained_out_loops")), RESULTS)
    for task in report.tasks:
        words = sorted(distinctions(task.sections).values())
        assert words == ["the input added before each block", "the input read once"]


def test_a_rate_of_shared_tensors_is_said_though_the_untied_network_beside_it_has_none(tmp_path):
    lines, records = [], []
    for tying, rate in (("none", None), ("cross_layer", None), ("cross_layer", "sqrt")):
        line = made.entry(tying, id=f"{tying}-{rate}", cell=f"{tying}-{rate}")
        lines.append(line)
        records.append(made.record(line, config={"optimizer": {"lr": 0.001, "shared_lr": rate}}))
    made.write_sweep(tmp_path / "runs", lines, records)
    found = sections(read_sweep(tmp_path / "runs", "quick")[0])
    assert [len(section.cells) for section in found] == [2, 2]
    assert set(distinctions(found).values()) == {
        "shared weights at the full rate",
        "shared weights at the rate / √uses",
    }


def test_settings_in_a_text_are_said_in_words_and_those_of_a_tying_stay(tmp_path):
    (section,) = varied(tmp_path, {})
    text = "text_gru, optimizer.lr=0.004, start=untied, data.my_key=7, soft(strength=0.1, form=relative)"
    words = (
        "text_gru, learning rate 0.004, after untied training, my key 7, soft(strength=0.1, form=relative)"
    )
    assert in_words(text, section.metric) == words
