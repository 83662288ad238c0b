"""Joules of a step, against a stand-in for NVML whose counter moves by known amounts."""

import sys
from types import SimpleNamespace

import pytest
import torch

from bench.meters.flops import of_calls

GPU, CPU = torch.device("cuda"), torch.device("cpu")


class Meter:
    """A GPU on which time passes, and energy is drawn, in steps alone; its own stand-in for pynvml."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.seconds = 0.0
        self.millijoules = 7_000_000
        self.open = 0
        self.asked: list[str] = []

    def step(self) -> None:
        self.seconds += 0.5
        self.millijoules += 150_000

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert self.open and handle in self.asked
        return self.millijoules


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    meter = Meter()
    monkeypatch.setitem(sys.modules, "pynvml", meter)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    return meter


def test_joules_of_a_step(meter: Meter) -> None:
    found = of_calls(meter.step, GPU, seconds=2.0, clock=lambda: meter.seconds)
    assert found == {"train_step_j": 150.0}
    assert (meter.seconds, meter.asked, meter.open) == (2.0, ["GPU-12-34"], 0)


def test_a_counter_that_stands_still_is_no_zero(meter: Meter) -> None:
    found = of_calls(lambda: None, GPU, seconds=0.0)
    assert found == {"unavailable": "the GPU's energy counter did not move"}


def test_what_nvml_refuses_is_told(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: str) -> int:
        raise Meter.NVMLError("Not Supported")

    monkeypatch.setattr(meter, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert of_calls(meter.step, GPU, seconds=1.0) == {"unavailable": "NVML: Not Supported"}
    assert meter.open == 0


def test_without_the_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in of_calls(lambda: None, GPU, seconds=1.0)["unavailable"]


def test_a_cpu_has_no_counter() -> None:
    assert of_calls(lambda: None, CPU, seconds=1.0) == {
        "unavailable": "energy is counted on NVIDIA GPUs only"
    }


def test_a_product_takes_energy_or_is_not_counted(device: torch.device) -> None:
    """Never 0: what cannot be counted here is said to be so."""
    square = torch.ones(1024, 1024, device=device)
    found = of_calls(lambda: square @ square, device, seconds=1.0)
    assert list(found) == ["unavailable"] or found["train_step_j"] >= 1e-6
