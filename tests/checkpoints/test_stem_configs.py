"""Stems and batch norms in config.json: which layouts can express what."""

from __future__ import annotations

from typing import Any

import pytest

from auris.checkpoints.config_writer import to_json
from auris.checkpoints.configs import from_json, read_json
from auris.checkpoints.hub import bundled_models
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.errors import ConfigError
from tests.checkpoints.files import LAYOUTS
from tests.checkpoints.test_configs import config_json, set_path, with_encoder
from tests.tiny_models import ctc_config, qwen_config


class TestStems:
    """Keys that were added to the format later."""

    @pytest.mark.parametrize("config", [qwen_config(), ctc_config()], ids=["qwen_asr", "aut_ctc"])
    def test_conv1d_round_trips(self, config: QwenAsrConfig | AutCtcConfig) -> None:
        config = with_encoder(config, stem="conv1d")
        content = config_json("native", config)
        assert content["encoder"]["stem"] == "conv1d"
        assert from_json(content) == ("native", config)

    def test_without_the_key_it_is_conv2d(self) -> None:
        content = config_json("native")
        assert not {"stem", "batch_norm"} & set(content["encoder"])
        said = set_path(set_path(content, "encoder.stem", "conv2d"), "encoder.batch_norm", False)
        assert from_json(said) == from_json(content) == ("native", qwen_config())

    def test_the_bundled_config_is_written_unchanged(self) -> None:
        content = read_json(bundled_models()["tiny-ctc"] / "config.json")
        layout, config = from_json(content)
        assert config.encoder.stem == "conv2d"
        assert to_json(config, layout, content["dtype"], {}) == content

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("config", [qwen_config(), ctc_config()], ids=["qwen_asr", "aut_ctc"])
    def test_batch_norms_are_never_written(
        self, layout: str, config: QwenAsrConfig | AutCtcConfig
    ) -> None:
        with pytest.raises(ConfigError, match=r"batch norms.*fold_batch_norm"):
            config_json(layout, with_encoder(config, batch_norm=True))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("stem", "conv3d"),
            ("stem", 1),
            ("stem", None),
            ("stem", ["conv1d"]),
            ("batch_norm", True),
            ("batch_norm", 0),
            ("batch_norm", None),
            ("batch_norm", "no"),
        ],
    )
    def test_invalid_values(self, key: str, value: Any) -> None:
        for config in (qwen_config(), ctc_config()):
            with pytest.raises(ConfigError, match=key):
                from_json(set_path(config_json("native", config), f"encoder.{key}", value))
