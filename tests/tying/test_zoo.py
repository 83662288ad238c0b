"""The library on a zoo of architectures: each step goes through, or is refused in one line that says why.

Outside the default time: `pytest -m zoo`. It prints how many steps went through, were refused, and failed.
"""

import copy
import traceback
import warnings
from collections import Counter

import pytest
import torch
import transformers
from vision_zoo import BY_LIBRARY, SIZE, is_installed
from vision_zoo import build as build_of
from zoo import BOTH, CAUSAL, IMAGES, MASKED, build

from bench.audit.audit import audit
from bench.audit.load import Subject, anew
from bench.tying import NotApplicable, cross_layer, relaxed, untied
from bench.tying.checkpoint import load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import num_bytes, quantize

ZOO = [*CAUSAL, *MASKED, *BOTH, *IMAGES]
COUNTS: Counter[str] = Counter()
pytestmark = pytest.mark.zoo


def example_of(name, model):
    if name in IMAGES:
        size = model.config.image_size if hasattr(model.config, "image_size") else 32
        size = size[0] if isinstance(size, (list, tuple)) else size
        return {"pixel_values": torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)}
    tokens = torch.arange(3, 19)[None]
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if name in BOTH else {})


class Steps:
    """What was tried on one architecture, and how each step ended."""

    def __init__(self, name):
        self.name, self.failed, self.refused = name, [], {}

    def take(self, step, action):
        """The step's result; None where it was refused or failed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = action()
        except (BadInput, NotApplicable) as reason:
            self.refused[step] = str(reason)
            if "\n" in str(reason):
                self.failed.append(f"{step}: several lines: {reason}")
        except Exception:
            self.failed.append(f"{step}: {traceback.format_exc()}")
        else:
            COUNTS["ok"] += 1
            return result
        return None

    def done(self):
        COUNTS["architectures"] += 1
        COUNTS["refused"] += len(self.refused)
        COUNTS["failed"] += len(self.failed)
        for step, reason in self.refused.items():
            print(f"{self.name}: {step} refused: {reason}")
        assert not self.failed, "\n".join(self.failed)


@pytest.mark.parametrize("name", ZOO)
def test_an_architecture(name, tmp_path):
    transformers.logging.set_verbosity_error()
    take_all(name, lambda: build(name), lambda model: example_of(name, model), tmp_path, is_known=True)


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, names in BY_LIBRARY.items() for name in names]
)
def test_a_network_of_another_library(library, name, tmp_path):
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    images = {"x": torch.linspace(-1, 1, 3 * SIZE * SIZE).view(1, 3, SIZE, SIZE)}
    take_all(name, lambda: build_of(library, name), lambda model: images, tmp_path, is_known=False)


def take_all(name, make, example_for, folder, is_known):
    """Audit, relax, tie, save, load and quantise one network.

    is_known: it is of transformers, so that `load` builds it by itself and its modules can be initialised again. Of
        others the audit may have no chance to compare with, and says of which parameter.
    """
    steps, path = Steps(name), folder / "model.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
        example = example_for(model)
        with torch.no_grad():
            model(**example)  # this example is ours to get right

    def audited():
        found = audit(Subject(name, make, lambda: anew(make())), 0.8)
        assert found.savings < 0.2
        assert not found.no_floor or (not is_known and "no module initialises" in found.no_floor)
        return found

    def tied():
        plan = cross_layer(model)
        predicted = plan.num_params(model)
        plan.apply(copy.deepcopy(model))
        plan.apply(model, example=example)
        plan.verify(model)
        assert sum(p.numel() for p in model.parameters()) == predicted
        return plan

    def reloaded(expected_bytes):
        back, same = load(path) if is_known else load(path, make())
        same.verify(back)
        assert same == plan and num_bytes(back) == expected_bytes
        return back

    def relaxed_too():
        other = make()
        relaxed(other, rank=1).apply(other, merge="mean", example=example)
        assert (
            sum(p.numel() for p in untied(other).parameters())
            >= sum(p.numel() for p in other.parameters()) / 2
        )

    steps.take("audit", audited)
    steps.take("relax", relaxed_too)
    if plan := steps.take("tie", tied):
        steps.take("save", lambda: save(model, plan, path, example))
        if path.is_file():
            steps.take("load", lambda: reloaded(num_bytes(model)))
        path.unlink(missing_ok=True)
        before = num_bytes(model)
        if steps.take("quantise", lambda: quantize(model, plan)) is not None:
            assert num_bytes(model) < before
            steps.take("save int8", lambda: save(model, plan, path, example))
            if path.is_file():
                steps.take("load int8", lambda: reloaded(num_bytes(model)))
    steps.done()


@pytest.fixture(scope="module", autouse=True)
def counted(request):
    """Print the count at the end, past pytest's capture."""
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        ok, refused, failed = (COUNTS[key] for key in ("ok", "refused", "failed"))
        print(
            f"\nzoo: {COUNTS['architectures']} architectures; steps: {ok} ok, {refused} refused, {failed} failed"
        )
