"""A user's own model is edited between two runs of the command."""

from pathlib import Path

from command import Bench, refused

MODEL = """
from bench.models.cnn import ResNet
from scaling import scaled

class Mine(ResNet):
    def forward(self, x):
        return scaled(super().forward(x))
"""
SCALING = "def scaled(logits):\n    return {} * logits\n"
RUN = ("model._target_=mine.Mine", "trainer.accelerator=cpu")


def test_an_edit_of_what_a_model_imports_is_run_and_a_mended_failure_too(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    scaling = tmp_path / "scaling.py"

    def run(text: str, *more: str):
        scaling.write_text(text)
        return bench(*RUN, *more, PYTHONPATH=str(tmp_path))

    def record():
        (made,) = bench.records().values()
        return made

    assert run(SCALING.format(1)).returncode == 0
    first, stamps = record(), bench.stamps()
    assert first["code"]["model"]["modules"].keys() == {"mine", "scaling"}
    assert run("# twice as steep\n" + SCALING.format("(1)")).returncode == 0 and bench.stamps() == stamps

    assert run(SCALING.format(3), "reuse=true").returncode == 0 and bench.stamps() == stamps
    again = run(SCALING.format(3))
    assert again.returncode == 0
    assert again.stderr.count("1 recorded run made with other code (scaling changed): made again") == 1
    assert record()["test"]["nll"] != first["test"]["nll"] and record()["id"] == first["id"]

    broken = "def scaled(logits):\n    raise RuntimeError('broken')\n"
    made, returned = run(broken), run(broken)
    assert made.returncode == returned.returncode == 1
    assert "recorded on" not in made.stderr and "retry=true" not in made.stderr
    assert "broken" in returned.stderr and returned.stderr.count("\n") == 1
    assert "(recorded on 2" in returned.stderr and "; retry=true runs it again" in returned.stderr
    mended = run(SCALING.format(1))
    assert mended.returncode == 0 and record()["test"] == first["test"]


def test_a_mistake_is_one_line_each_time_and_is_not_recorded(bench: Bench) -> None:
    for _ in range(2):
        refused(bench("model.norm=none_of_them"), "norm")
        assert bench.records() == {}
