"""Devices and dtypes by name: where a model runs, and what it computes in.

No other module names devices.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from auris.backends.native import HALF_FORMATS
from auris.checkpoints.quantization_config import PACKED_DTYPES
from auris.errors import DeviceError, UnknownDevice, UsageError


class Device(str, Enum):
    """What a model runs on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"
    METAL = "metal"
    """Another name of MPS."""

    def __str__(self) -> str:
        return str(self.value)


DEVICES = ("cpu", "cuda", "mps")
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def available_devices() -> list[str]:
    """Devices of this machine, the fastest first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def pick_device(name: str | torch.device) -> torch.device:
    """The device that `name` means here; "auto" is the fastest there is, "metal" is "mps".

    Raises:
        UnknownDevice: there is no such device.
        DeviceError: the machine has none.
    """
    name = "mps" if str(name) == Device.METAL else str(name)
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    kind = name.partition(":")[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or kind not in DEVICES:
        raise UnknownDevice(
            f"The device has to be auto, {', '.join(DEVICES)} or metal",
            f"it is {name!r}",
            f"choose --device {present[0]}",
        )
    if kind not in present:
        raise DeviceError(
            "The device has to be one that this machine has",
            f"it is {name!r} and there is {', '.join(present)}",
            f"choose --device {present[0]}, or install a torch build for the device",
        )
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            "The index of a CUDA device has to be below their number",
            f"it is {name!r}, and there are {torch.cuda.device_count()} devices",
            "choose a lower index",
        )
    return device


class Dtypes(NamedTuple):
    """What a model computes in.

    Attributes:
        computed: dtype of the activations between layers, and of the weights except those of
            `decoder`.
        decoder: of the weights of a decoder, which native code widens to float32 where it is
            another one.
    """

    computed: torch.dtype
    decoder: torch.dtype


def pick_dtypes(
    name: str, device: torch.device, stored: torch.dtype, native_decoder: bool
) -> Dtypes:
    """The dtypes that `name` means on a device.

    "auto" is the stored dtype. A CPU without arithmetic for a half-precision dtype computes in
    float32 instead, since PyTorch would emulate it, five to forty times slower. The weights of a
    decoder that native code runs are in the half-precision dtype even so.

    Args:
        native_decoder: whether native code can run the decoder with 16-bit weights, see
            `auris.backends.native_decoder.runs_half`; False for a model without a decoder.

    Raises:
        UnknownDevice: the name is no dtype.
    """
    if name != "auto" and name not in DTYPES:
        raise UnknownDevice(
            f"The dtype has to be auto, {', '.join([*DTYPES, *PACKED_DTYPES])}",
            f"it is {name!r}",
            "choose one of these with --dtype",
        )
    dtype = DTYPES.get(name, stored)
    if dtype not in HALF_FORMATS or device.type != "cpu" or _cpu_computes_in(dtype):
        return Dtypes(dtype, dtype)
    return Dtypes(torch.float32, dtype if native_decoder else torch.float32)


def _cpu_computes_in(half: torch.dtype) -> bool:
    """Whether torch multiplies matrices in a half-precision dtype by oneDNN here; builds without it
    emulate them. Products of float16 are never used: processors that have them are rare."""
    return (
        half == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


PROCESSOR = Path("/proc/cpuinfo")


def multiplies_integers() -> bool:
    """Whether torch multiplies matrices of int8 by oneDNN here, which it does with AVX-512 VNNI."""
    return torch.backends.mkldnn.is_available() and "avx512_vnni" in _flags(PROCESSOR)


@cache
def _flags(processor: Path) -> frozenset[str]:
    """What the processor can do, by a file of Linux; empty on other systems."""
    try:
        lines = processor.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), []))


STATIC_STEP = "AURIS_STATIC_STEP"
"""A variable of the environment: whether decoders take the static step."""


def runs_static_step(device: torch.device, setting: str | None) -> bool:
    """Whether a decoder on a device takes the static step: on CUDA, unless the setting says
    otherwise. Elsewhere it has no advantage, and runs to be compared with other steps.

    Args:
        setting: the value of `STATIC_STEP`: "1", "0", or empty or None for the default.

    Raises:
        UsageError: it is something else.
    """
    if setting not in (None, "", "0", "1"):
        raise UsageError(f"{STATIC_STEP} has to be 0 or 1", f"it is {setting!r}", "correct it")
    return setting == "1" if setting else device.type == "cuda"


def captures_passes(device: torch.device) -> bool:
    """Whether passes of a static step can be captured on a device, as CUDA graphs."""
    return device.type == "cuda"


def static_step_name(device: torch.device) -> str:
    """What the static step is on a device, in words."""
    passes = "captured as CUDA graphs" if captures_passes(device) else "not captured"
    return f"PyTorch, static step, {passes}"
