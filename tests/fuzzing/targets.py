"""All targets by name."""

from __future__ import annotations

from tests.fuzzing.audio_target import Audio
from tests.fuzzing.file_targets import Configs, Gguf, LanguageModels, Manifests, Safetensors
from tests.fuzzing.server_targets import Forms, Requests, WebSocketMessages
from tests.fuzzing.target import Target

TARGETS: dict[str, type[Target]] = {
    "audio": Audio,
    "manifests": Manifests,
    "configs": Configs,
    "safetensors": Safetensors,
    "gguf": Gguf,
    "language-models": LanguageModels,
    "forms": Forms,
    "websocket": WebSocketMessages,
    "requests": Requests,
}
