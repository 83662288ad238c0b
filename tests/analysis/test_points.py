"""Points of the map: read from any sweep's records, paired by all but tying and rate, kept in a file."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import point_maker
import pytest

from bench.analysis import archive, points
from bench.analysis.arms import pair_key
from bench.analysis.measurements import measurements, measurements_by_role, read_runs
from bench.analysis.points import METHODS, as_csv, fingerprint, from_csv, point_of
from bench.analysis.runs import rows
from bench.runs.tying_spec import Part
from bench.tying.errors import BadInput

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def quick():
    """The finished runs of a recorded sweep: GRU, transformer and CNN."""
    return [run for run in rows(archive.read(RESULTS / "quick" / archive.FILE)) if run.is_done]


def altered(run, seed=None, **changes):
    """A run with some keys of its config changed, and an identity of its own."""
    record = copy.deepcopy(dict(run.record))
    for path, value in changes.items():
        at = record
        *before, last = path.split("__")
        for name in before:
            at = at[name]
        at[last] = value
    identity = f"{run.id}-{seed}-{changes}"
    return replace(run, id=identity, seed=run.seed if seed is None else seed, record=record)


def one_of(runs, task, tying):
    return next(
        run for run in runs if (run.task, run.tying, run.dropout, run.weight_decay) == (task, tying, 0, 0)
    )


# No cross-entropy, or a network that was made for one way of sharing.
WITHOUT_A_PLACE = ("series_gru", "sentence_embedding", "image_autoencoder", "dna", "image_pairs")
WITHOUT_A_PLACE += ("image_positions", "image_rotations", "two_tasks", "two_tasks_alike", "image_slots")
WITHOUT_A_PLACE += ("image_implicit", "text_unrolled", "text_trellis", "text_experts", "image_rows")
WITHOUT_A_PLACE += ("image_teacher", "image_teacher_turned")


def test_every_recorded_language_model_and_classifier_has_a_place():
    for name in archive.archived_names(RESULTS):
        for run in rows(archive.read(RESULTS / name / archive.FILE)):
            point = point_of(run.record) if run.is_done else None
            is_other = (
                run.number("config", "model", "repeats") is not None
            )  # kv_activations, a network of its own
            if not run.is_done or run.task in WITHOUT_A_PLACE or is_other:
                assert point is None
                continue
            train = run.number("data_meta", "sizes", "train")
            assert 0 < point.tokens <= train and point.passes >= 1
            assert (point.width, point.depth) == tuple(
                run.number("config", "model", k) for k in ("width", "depth")
            )
            assert (point.vocabulary > 0) == point.is_text
            assert 2 * point.vocabulary * point.width < point.parameters == run.number("num_params_untied")


def test_the_budget_is_what_a_run_read(quick):
    for run in quick:
        point, batches = point_of(run.record), run.record["config"]["task"]["batches"]
        per_step = batches["batch_size"] * (batches["window"] if point.is_text else 1)
        assert point.tokens * point.passes == pytest.approx(run.record["steps"] * per_step, rel=0.06)


def test_a_budget_in_steps_takes_the_place_of_epochs(quick):
    run = one_of(quick, "text_transformer", "none")
    long = altered(run, config__trainer__max_steps=1511 * 3, config__trainer__max_epochs=1)
    assert point_of(long.record).passes == pytest.approx(3, rel=0.01)
    also = altered(long, config__trainer__max_epochs=9)
    assert pair_key(long.record) == pair_key(also.record) != pair_key(run.record)


def test_a_start_at_full_scale_is_that_of_records_without_the_key(quick):
    run = one_of(quick, "text_gru", "none")
    assert "init_scale" not in run.record["config"]["model"]
    assert pair_key(altered(run, config__model__init_scale=1).record) == pair_key(run.record)
    assert pair_key(altered(run, config__trainer__example_scores=None).record) == pair_key(run.record)
    assert pair_key(altered(run, config__model__init_scale=0.5).record) != pair_key(run.record)


def test_the_tokens_of_a_limit_are_the_tokens_there_are(quick):
    run = one_of(quick, "text_transformer", "none")
    few = point_of(altered(run, config__data__train_limit=10_000, config__trainer__max_epochs=4).record)
    assert few.tokens == 10_000 and few.passes == pytest.approx(4, rel=0.03)


def test_what_is_measured_is_the_difference_between_runs_of_a_pair(quick):
    tied, untied = one_of(quick, "text_gru", "embedding"), one_of(quick, "text_gru", "none")
    (one,) = (each for each in measurements(("quick", run) for run in (untied, tied)))
    assert one.difference == tied.number("test", "nll") - untied.number("test", "nll")
    assert one.percent == pytest.approx(
        100 * (tied.number("test", "perplexity") / untied.number("test", "perplexity") - 1)
    )
    assert (one.method, one.n, one.sd, one.sweeps) == ("embedding", 1, None, ("quick",))
    assert one.saved == one.point.vocabulary * one.point.width
    assert one.point.vocabulary == 4000


def test_runs_that_two_sweeps_share_count_once(quick):
    pair = [one_of(quick, "text_gru", "embedding"), one_of(quick, "text_gru", "none")]
    (one,) = measurements((name, run) for name in ("b", "a") for run in pair)
    assert one.n == 1 and one.sweeps == ("a", "b")


def test_seeds_are_paired(quick):
    tied, untied = one_of(quick, "text_gru", "embedding"), one_of(quick, "text_gru", "none")
    runs = [
        tied,
        untied,
        altered(tied, 2, test__nll=4.0),
        altered(untied, 2, test__nll=4.1),
        altered(tied, 3),
    ]
    (one,) = measurements(("quick", run) for run in runs)
    first = tied.number("test", "nll") - untied.number("test", "nll")
    assert one.n == 2 and one.difference == pytest.approx((first - 0.1) / 2) and one.sd > 0


def test_each_arm_has_the_rate_that_validation_prefers(quick):
    tied, untied = one_of(quick, "text_gru", "embedding"), one_of(quick, "text_gru", "none")
    better = altered(tied, config__optimizer__lr=0.1, val__nll=1.0, test__nll=3.0)
    worse = altered(tied, config__optimizer__lr=0.2, val__nll=9.0, test__nll=0.5)
    (one,) = measurements(("quick", run) for run in (untied, worse, tied, better))
    assert one.difference == 3.0 - untied.number("test", "nll")


def test_a_role_that_is_shared_alone_is_no_cross_layer_of_the_map(quick):
    untied, whole = one_of(quick, "text_gru", "none"), one_of(quick, "text_gru", "cross_layer")
    spec = replace(whole.spec, parts=(Part("cross_layer", (("scope", "recurrent"),)),))
    # The weights of a block are as many of the input as recurrent ones.
    saved = whole.number("num_params_untied") - whole.number("num_params")
    alone = altered(whole, num_params=whole.number("num_params_untied") - saved // 2, test__nll=3.0)
    alone = replace(alone, spec=spec)
    runs = [("map", untied), ("map", whole), ("map_roles", alone)]
    assert measurements(runs) == measurements(runs[:2])
    *others, one = measurements_by_role(runs)
    assert others == measurements(runs)
    assert (one.method, one.distinct, one.saved) == ("recurrent", 1, saved // 2)
    assert one.difference == 3.0 - untied.number("test", "nll")
    assert measurements_by_role(runs[:2]) == []


def test_roles_are_compared_at_the_rates_of_the_rule(quick):
    untied, whole = one_of(quick, "text_gru", "none"), one_of(quick, "text_gru", "cross_layer")
    spec = replace(whole.spec, parts=(Part("cross_layer", (("scope", "input"),)),))
    alone = replace(altered(whole, test__nll=3.0), spec=spec)
    higher = altered(untied, config__optimizer__lr=0.1, val__nll=1.0, test__nll=0.5)
    *_, one = measurements_by_role(
        [("map", untied), ("map_roles", alone), ("map_higher", higher), ("map", whole)]
    )
    assert one.method == "input" and one.untied_nll == untied.number("test", "nll") != 0.5


def test_a_run_that_lacks_a_part_of_its_config_has_no_place(quick):
    record = one_of(quick, "text_gru", "none").record
    for part in ("task", "data", "model", "optimizer", "trainer"):
        lacking = {**record, "config": {key: value for key, value in record["config"].items() if key != part}}
        assert pair_key(lacking) is None and point_of(lacking) is None
    assert pair_key({}) is None and point_of({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"config__control": "params"},
        {"config__start": {"max_epochs": 1}},
        {"config__trainer__max_epochs": 7},
        {"config__dropout": 0.4},
    ],
)
def test_runs_of_other_places_are_no_pair(quick, change):
    tied, untied = one_of(quick, "text_gru", "embedding"), one_of(quick, "text_gru", "none")
    assert not measurements(("quick", run) for run in (untied, altered(tied, **change)))


def test_what_is_saved_fits_the_blocks_that_are_left(quick):
    for one in measurements(("quick", run) for run in quick):
        uses = points.group_sizes(one.method, one.distinct, one.point.depth)
        if one.method != "embedding" and one.point.network != "cnn":
            assert one.saved % (one.point.depth - one.distinct) == 0
            assert sum(uses) == one.point.depth and len(uses) == one.distinct


def test_the_file_gives_back_what_it_was_made_of(tmp_path):
    found = measurements(read_runs(tmp_path, RESULTS))
    (tmp_path / points.FILE).write_text(as_csv(found))
    again = from_csv(tmp_path / points.FILE)
    assert as_csv(again) == as_csv(found) and fingerprint(again) == fingerprint(found)
    assert [(one.point, one.method, one.n, one.sweeps) for one in again] == [
        (one.point, one.method, one.n, one.sweeps) for one in found
    ]
    assert [METHODS.index(one.method) for one in found] == sorted(METHODS.index(one.method) for one in found)
    for one, other in zip(found, again, strict=True):
        assert other.difference == pytest.approx(one.difference, abs=1e-6)
        assert (other.sd is None) == (one.sd is None)


def test_another_point_is_another_fingerprint():
    found = point_maker.measurements(4)
    assert fingerprint(found) != fingerprint(found[1:])


def test_a_folder_without_points_is_refused(tmp_path):
    with pytest.raises(BadInput, match="there is no map in .*bench.map"):
        from_csv(tmp_path / points.FILE)
    (tmp_path / points.FILE).write_text("network,corpus\ngru,pydocs\n")
    with pytest.raises(BadInput, match="no file of points"):
        from_csv(tmp_path / points.FILE)
    with pytest.raises(BadInput, match="no sweep is recorded"):
        read_runs(tmp_path, tmp_path)


def test_a_percent_of_perplexity():
    assert points.as_percent(math.log(1.05)) == pytest.approx(5)
    assert math.isfinite(points.as_percent(1e6))
