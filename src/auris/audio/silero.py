"""The network of silero-vad, which gives the probability of speech of every 32 ms.

The weights come from the file of the installed package `silero-vad` that the package itself runs.
(Its file silero_vad_16k.safetensors has other weights.) The package is not imported, since that
changes the number of torch's threads. The network is small: computed by numpy, frame by frame, it
takes a few milliseconds for a second of audio, in the thread that calls it. A frame is computed
alone, so the numbers do not depend on how many samples arrive at once.

The network is a short-time Fourier transform, four convolutions, an LSTM cell and a linear layer,
for 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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

WINDOWS = np.arange(TRANSFORM)[:, None] + np.arange(0, FRAME + 2 * CONTEXT - TRANSFORM + 1, HOP)
"""Where the samples of the Fourier transforms lie, [TRANSFORM, 4]."""

Weights = NDArray[np.float32]


def silero_file() -> Path | None:
    """The weights of the installed package; None without the package, or in another layout."""
    spec = find_spec("silero_vad")
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    return next((path for path in (Path(f, FILE) for f in folders) if path.is_file()), None)


@dataclass(frozen=True)
class _Convolution:
    """A convolution of [in, length] as one product, followed by a ReLU.

    Attributes:
        weight: [out, in * taps]
        bias: [out, 1]
        positions: [in * taps, outputs], where its inputs lie in the flat input.
    """

    weight: Weights
    bias: Weights
    positions: NDArray[np.intp]

    @classmethod
    def of(cls, weight: Weights, bias: Weights, length: int, stride: int = 1) -> _Convolution:
        """A convolution of an input of some length, without padding."""
        outputs, inputs, taps = weight.shape
        starts = np.arange(0, length - taps + 1, stride)
        inside = np.arange(inputs)[:, None] * length + np.arange(taps)
        positions = inside.reshape(-1, 1) + starts
        return cls(weight.reshape(outputs, -1).copy(), bias[:, None], positions)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self.weight @ x.ravel().take(self.positions) + self.bias
        return np.maximum(result, 0, out=result)


class SileroNetwork:
    """The weights, in the shapes of products, and one step of the network.

    Products have at most 2 ** 18 multiplications and no operand that is a vector, because OpenBLAS
    would start threads for these.
    """

    def __init__(self, weights: dict[str, Weights]) -> None:
        basis = weights["stft.forward_basis_buffer"][:, 0]
        half = len(basis) // 2
        self._cosines, self._sines = basis[:half].copy(), basis[half:].copy()
        kernels = [weights[f"encoder.{number}.reparam_conv.weight"] for number in range(4)]
        biases = [weights[f"encoder.{number}.reparam_conv.bias"] for number in range(4)]
        self._convolutions = (
            _Convolution.of(kernels[0], biases[0], 6),
            _Convolution.of(kernels[1], biases[1], 6, stride=2),
            # These two see only zeros of the padding where taps are left out.
            _Convolution.of(kernels[2][:, :, 1:], biases[2], 2),
            _Convolution.of(kernels[3][:, :, 1:2], biases[3], 1),
        )
        gates = (weights["decoder.rnn.weight_ih"], weights["decoder.rnn.weight_hh"])
        self._gates = np.concatenate(gates, axis=1).T.copy()
        self._gates_bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        self._last = weights["decoder.decoder.2.weight"][0, :, 0]
        self._last_bias = float(weights["decoder.decoder.2.bias"][0])

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

    def step(self, samples: Samples, state: NDArray[np.float32]) -> float:
        """The probability of a frame.

        Args:
            samples: [CONTEXT + FRAME].
            state: after the frame before; it is changed.
        """
        first, second, third, fourth = self._convolutions
        x = fourth(third(second(_padded(first(_padded(self._spectrum(samples)))))))
        width = len(self._last)
        rows = np.zeros((2, 2 * width), np.float32)  # The second one is not used.
        rows[0, :width], rows[0, width:] = x[:, 0], state[0]
        gates = ((rows @ self._gates)[0] + self._gates_bias).reshape(4, width)
        enter, keep, leave = _sigmoid(gates[0]), _sigmoid(gates[1]), _sigmoid(gates[3])
        state[1] = keep * state[1] + enter * np.tanh(gates[2])
        state[0] = leave * np.tanh(state[1])
        logit = (np.maximum(state[0], 0) * self._last).sum() + self._last_bias
        return float(_sigmoid(logit))

    def _spectrum(self, samples: Samples) -> NDArray[np.float32]:
        """Magnitudes, [129, 4]; behind the end the samples are reflected."""
        padded = np.concatenate((samples, samples[-CONTEXT - 1 : -1][::-1]))
        windows = padded.take(WINDOWS)
        real, imaginary = self._cosines @ windows, self._sines @ windows
        magnitudes: NDArray[np.float32] = np.sqrt(real * real + imaginary * imaginary)
        return magnitudes


def _padded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.zeros((len(x), x.shape[1] + 2), np.float32)
    padded[:, 1:-1] = x
    return padded


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


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
        probabilities = [
            self._network.step(joined[n * FRAME : (n + 1) * FRAME + CONTEXT].copy(), self._state)
            for n in range(count)
        ]
        self._waiting = joined[count * FRAME :].copy()
        return probabilities

    def finish(self) -> list[float]:
        """The probability of the last frame, completed by zeros, if there is one."""
        rest = len(self._waiting) - CONTEXT
        return self.push(np.zeros(FRAME - rest, np.float32)) if rest else []
