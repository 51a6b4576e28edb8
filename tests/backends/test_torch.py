"""Devices, dtypes and kernels by name, and errors of models without a decoder."""

from __future__ import annotations

import pytest
import torch

from auris.backends.devices import DTYPES, Device, available_devices, pick_device, pick_dtypes
from auris.backends.memory import within_memory
from auris.backends.torch import TorchBackend
from auris.errors import DeviceError, UnsupportedOption
from tests.processors import set_bfloat16
from tests.tiny_models import ctc_config, tiny_model

CPU = torch.device("cpu")


def test_the_cpu_is_always_listed_last() -> None:
    assert available_devices()[-1] == "cpu"
    assert pick_device("auto").type == available_devices()[0]
    assert pick_device("cpu") == pick_device(CPU) == CPU


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "gpu",
            "CPU",
            "cuda:",
            "cuda:-1",
            "cuda:99",
            "cuda:x",
            "cuda:1e3",
            "cuda:" + "9" * 30,
        ),
        *("meta", "xpu", "cpu:0:0", " cpu", "auto:1", "auto,cpu", "\0"),
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=r"device has to be|index of a CUDA"):
        pick_device(name)


def test_devices_of_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(DeviceError, match=f"it is {name!r} and there is cpu"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="it is 'cuda:2', and there are 2 devices"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["cuda", "mps", "cpu"]
    assert pick_device("mps") == torch.device("mps")


@pytest.mark.parametrize("stored", DTYPES.values())
def test_dtypes_by_name(stored: torch.dtype) -> None:
    assert pick_dtypes("float32", CPU, stored, True) == (torch.float32, torch.float32)
    for name, dtype in DTYPES.items():
        assert pick_dtypes(name, torch.device("cuda"), stored, True) == (dtype, dtype)
    assert pick_dtypes("auto", torch.device("cuda"), stored, True) == (stored, stored)
    for name in ("", "fp32", "FLOAT32", "int8", "float64"):
        with pytest.raises(DeviceError, match="dtype has to be auto, float32, bfloat16, float16"):
            pick_dtypes(name, CPU, stored, True)


def test_half_precision_on_a_cpu_without_support(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed in float32, with the weights of a decoder as stored by native code."""
    single, half = torch.float32, torch.float16
    set_bfloat16(monkeypatch, False)
    for name, dtype in (("float16", half), ("bfloat16", torch.bfloat16)):
        for given, stored in (("auto", dtype), (name, single), (name, half), (name, dtype)):
            assert pick_dtypes(given, CPU, stored, True) == (single, dtype)
            assert pick_dtypes(given, CPU, stored, False) == (single, single)
    set_bfloat16(monkeypatch, True)
    for native_decoder in (True, False):
        for given, stored in (("auto", torch.bfloat16), ("bfloat16", single)):
            assert pick_dtypes(given, CPU, stored, native_decoder) == (torch.bfloat16,) * 2
        assert pick_dtypes("auto", CPU, single, native_decoder) == (single, single)
    for given in ("auto", "float16"):
        assert pick_dtypes(given, CPU, half, True) == (single, half)


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_scores_are_float32(dtype: torch.dtype) -> None:
    backend = TorchBackend(tiny_model().to(dtype))
    assert (backend.dtype, backend.device) == (dtype, CPU)
    cache = backend.new_cache(1, 4)
    assert cache.keys.dtype == dtype
    backend.admit(cache)
    logits = backend.extend(cache, [[1, 2, 3]])
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    (states,) = backend.encode([torch.randn(128, 150)])
    assert states.dtype == dtype
    ctc = TorchBackend(tiny_model(ctc_config()).to(dtype))
    (scores,) = ctc.ctc_logits(ctc.encode([torch.randn(128, 150)]))
    assert scores.dtype == torch.float32


def test_no_gradients_are_recorded() -> None:
    model = tiny_model().requires_grad_(True)
    model.train()
    backend = TorchBackend(model)
    assert not model.training
    cache = backend.new_cache(1, 4)
    backend.admit(cache)
    assert not backend.extend(cache, [[1, 2]]).requires_grad
    assert not backend.encode([torch.randn(128, 50)])[0].requires_grad


def test_each_kind_of_model_refuses_the_other_kinds_work() -> None:
    ctc = TorchBackend(tiny_model(ctc_config()))
    for call in (lambda: ctc.embed([1], None), lambda: ctc.new_cache(1, 1)):
        with pytest.raises(UnsupportedOption, match="needs a model with a decoder"):
            call()
    with pytest.raises(UnsupportedOption, match="need a model with a CTC head"):
        TorchBackend(tiny_model()).ctc_logits([])


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(UnsupportedOption, match="it is 'fast'"):
        TorchBackend(tiny_model(), "fast")


def test_out_of_memory_is_an_error_of_the_package() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()):
        with pytest.raises(DeviceError, match="not enough memory"), within_memory():
            raise error
    with pytest.raises(DeviceError, match="can't allocate memory"), within_memory():
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="something else"), within_memory():
        raise RuntimeError("something else")


def test_ctc_scores_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    backend = TorchBackend(tiny_model(ctc_config()))
    monkeypatch.setattr(backend.model.head, "forward", full)
    with pytest.raises(DeviceError, match="not enough memory"):
        backend.ctc_logits([torch.zeros(3, 8)])


def test_metal_is_an_alias_of_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auris.backends.devices.available_devices", lambda: ["mps", "cpu"])
    for name in ("metal", Device.METAL, Device.MPS, "mps", "auto", Device.AUTO):
        assert pick_device(name) == torch.device("mps")
    assert pick_device(Device.CPU) == torch.device("cpu")
