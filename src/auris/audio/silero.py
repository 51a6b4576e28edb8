"""The network of silero-vad, which gives the probability of speech of every 32 ms.

The weights come from the file of the installed package `silero-vad` that the package itself runs.
(Its file silero_vad_16k.safetensors has other weights.) The package is not imported, since that
changes the number of torch's threads. The network is small: computed by numpy, it takes a few
milliseconds for a second of audio, in the thread that calls it.

The network is a short-time Fourier transform, four convolutions, an LSTM cell and a linear layer,
for 16 kHz. All but the recurrent part is computed for several frames in one call of numpy, by
products of each frame alone, so the numbers do not depend on how many samples arrive at once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auris.errors import AudioError
from auris.types import Samples

FRAME = 512
"""Samples of a frame."""

CONTEXT = 64
"""Samples before a frame that the network sees, too."""

TRANSFORM, HOP = 256, 128
"""Length of a Fourier transform, and the samples between two of them."""

FILE = Path("data", "silero_vad.jit")

PREFIX = "_model."
"""Beginning of the names of the weights for 16 kHz."""

LAST = FRAME + CONTEXT - 1
"""Position of the last sample of a frame with its context."""

POSITIONS = LAST - np.abs(
    LAST - np.arange(0, FRAME + 2 * CONTEXT - TRANSFORM + 1, HOP)[:, None] - np.arange(TRANSFORM)
)
"""Where the samples of the Fourier transforms lie in a frame, reflected behind its end,
[4, TRANSFORM]."""

FRAMES_AT_ONCE = 32
"""Frames that are computed together at most."""

ROWS = 64
"""Rows of the parts in which a vector is multiplied with a matrix."""

Weights = NDArray[np.float32]


def silero_file() -> Path | None:
    """The weights of the installed package; None without the package, or in another layout."""
    spec = find_spec("silero_vad")
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    return next((path for path in (Path(f, FILE) for f in folders) if path.is_file()), None)


class _Convolution:
    """A convolution of frames [n, length, in] to [n, outputs, out], with a ReLU.

    Args:
        weight: [out, in, taps]
        bias: [out]
        length: of the frames, with their padding.
        stride: between the first inputs of two outputs.
    """

    def __init__(self, weight: Weights, bias: Weights, length: int, stride: int = 1) -> None:
        outputs, inputs, taps = weight.shape
        # Taps of a channel lie side by side, since they cancel each other: sums stay small.
        self._weight = weight.reshape(outputs, -1).T.copy()
        self._bias = bias.copy()
        inside = np.arange(inputs)[:, None] + inputs * np.arange(taps)
        starts = inputs * np.arange(0, length - taps + 1, stride)
        self._positions = starts[:, None] + inside.reshape(-1)  # In a flat frame.

    def __call__(self, x: Weights, out: Weights | None = None) -> Weights:
        """The outputs, in `out` if it is given."""
        spans = x.reshape(len(x), -1).take(self._positions, axis=1)
        result: Weights = np.matmul(spans, self._weight, out=out)
        result += self._bias
        return np.maximum(result, 0, out=result)


class SileroNetwork:
    """The weights, in the shapes of products, and the network.

    Products of matrices have at most 2 ** 18 multiplications and those of a matrix and a vector at
    most 9216, because OpenBLAS would start threads for larger ones. Each is of one frame.
    """

    def __init__(self, weights: dict[str, Weights]) -> None:
        self._window = _window(weights["stft.forward_basis_buffer"][:, 0])
        kernels = [weights[f"encoder.{number}.reparam_conv.weight"] for number in range(4)]
        biases = [weights[f"encoder.{number}.reparam_conv.bias"] for number in range(4)]
        self._first = _Convolution(kernels[0], biases[0], 6)
        self._second = _Convolution(kernels[1], biases[1], 6, stride=2)
        # These two see only zeros of the padding where taps are left out.
        self._third = _Convolution(kernels[2][:, :, 1:], biases[2], 2)
        self._fourth = _Convolution(kernels[3][:, :, 1:2], biases[3], 1)
        self._last = weights["decoder.decoder.2.weight"][0, :, 0].copy()
        self._last_bias = float(weights["decoder.decoder.2.bias"][0])
        width = len(self._last)
        # The sigmoid of x is (tanh(x / 2) + 1) / 2, so a tanh of all four gates is enough.
        self._scales = np.array([0.5, 0.5, 1.0, 0.5], np.float32)[:, None].repeat(width, 1)
        self._shifts = np.array([0.5, 0.5, 0.0, 0.5], np.float32)[:, None].repeat(width, 1)
        scales = self._scales.reshape(-1)
        bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        self._gates_bias = (bias * scales).reshape(4, width)
        self._gates: Weights = (weights["decoder.rnn.weight_ih"] * scales[:, None]).reshape(
            -1, ROWS, width
        )
        self._recurrent: Weights = (weights["decoder.rnn.weight_hh"] * scales[:, None]).reshape(
            -1, ROWS, width
        )

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls, file: Path) -> SileroNetwork:
        """The network of a file.

        Raises:
            AudioError: the file is not as this module expects it.
        """
        import torch

        try:
            stored = torch.jit.load(str(file), map_location="cpu").state_dict()
            named = {n.removeprefix(PREFIX): w for n, w in stored.items() if n.startswith(PREFIX)}
            return cls({name: weight.numpy() for name, weight in named.items()})
        except (OSError, RuntimeError, KeyError, ValueError, IndexError) as error:
            raise AudioError(
                f"The network of silero-vad in {str(file)!r} cannot be used "
                f"({type(error).__name__}: {str(error)[:100]})",
                "",
                "install version 6.2.3 of the package, or choose --vad-model energy",
            ) from error

    def state(self) -> NDArray[np.float32]:
        """The state before the first frame, [2, width]: hidden state and cell."""
        return np.zeros((2, len(self._last)), np.float32)

    def run(self, samples: Samples, count: int, state: Weights) -> list[float]:
        """The probabilities of successive frames.

        Args:
            samples: [CONTEXT + count * FRAME].
            state: after the frame before; it is changed.
        """
        starts = FRAME * np.arange(count)
        windows = samples.take(starts[:, None, None] + POSITIONS)
        gates = self._inputs(self._spectra(windows))
        hidden = np.empty((count, len(self._last)), np.float32)
        for index in range(count):
            self._lstm_step(gates[index], state, hidden[index])
        np.maximum(hidden, 0, out=hidden)
        hidden *= self._last
        logits = hidden.sum(1).tolist()
        return [0.5 + 0.5 * math.tanh(0.5 * (logit + self._last_bias)) for logit in logits]

    def _spectra(self, windows: Samples) -> Weights:
        """Magnitudes [n, 6, bins] of the windows of frames [n, 4, TRANSFORM], with a row of zeros
        before and after."""
        windows *= self._window
        parts = np.fft.rfft(windows)
        real, imaginary = parts.real, parts.imag
        real *= real
        imaginary *= imaginary
        count, rows, bins = parts.shape
        padded = np.zeros((count, rows + 2, bins), np.float32)
        inner = padded[:, 1:-1]
        np.add(real, imaginary, out=inner)
        np.sqrt(inner, out=inner)
        return padded

    def _inputs(self, spectra: Weights) -> Weights:
        """What each frame, by its spectra [n, 6, bins], gives to the gates, [n, 4, width]."""
        count, rows, _ = spectra.shape
        padded = np.zeros((count, rows, len(self._last)), np.float32)
        self._first(spectra, padded[:, 1:-1])
        x = self._fourth(self._third(self._second(padded)))
        gates: Weights = (self._gates @ x[:, :, :, None]).reshape(count, 4, -1)
        gates += self._gates_bias
        return gates

    def _lstm_step(self, gates: Weights, state: Weights, hidden: Weights) -> None:
        """One step of the LSTM.

        Args:
            gates: [4, width], what the frame gives to the input, forget, cell and output gate; they
                are changed.
            state: [2, width], after the frame before; it is changed.
            hidden: [width], receives the hidden state.
        """
        cell = state[1]
        gates += (self._recurrent @ state[0]).reshape(gates.shape)
        np.tanh(gates, out=gates)
        gates *= self._scales
        gates += self._shifts
        input_gate, forget_gate, new_cell, output_gate = gates
        cell *= forget_gate
        input_gate *= new_cell
        cell += input_gate
        np.tanh(cell, out=hidden)
        hidden *= output_gate
        state[0] = hidden


def _window(basis: Weights) -> Weights:
    """The window [TRANSFORM] of a transform with a basis [2 * bins, TRANSFORM].

    Raises:
        ValueError: it is not a Fourier transform.
    """
    window: Weights = basis[0].copy()
    waves = np.fft.rfft(np.diag(window.astype(np.float64))).T
    if not np.allclose(basis, np.concatenate((waves.real, waves.imag)), rtol=0, atol=1e-6):
        raise ValueError("the first layer is not a Fourier transform")
    return window


class SileroFrames:
    """The probability of speech in every frame of a stream at 16 kHz."""

    def __init__(self, network: SileroNetwork) -> None:
        self._network = network
        self._state = network.state()
        self._waiting = np.zeros(CONTEXT, np.float32)

    def push(self, samples: Samples) -> list[float]:
        """Take more samples, float32 [n]; returns the probabilities of the complete frames."""
        joined = np.concatenate((self._waiting, samples))
        count = (len(joined) - CONTEXT) // FRAME
        probabilities: list[float] = []
        for first in range(0, count, FRAMES_AT_ONCE):
            some = min(FRAMES_AT_ONCE, count - first)
            part = joined[first * FRAME : (first + some) * FRAME + CONTEXT]
            probabilities += self._network.run(part, some, self._state)
        self._waiting = joined[count * FRAME :].copy()
        return probabilities

    def finish(self) -> list[float]:
        """The probability of the last frame, completed by zeros, if there is one."""
        rest = len(self._waiting) - CONTEXT
        return self.push(np.zeros(FRAME - rest, np.float32)) if rest else []
