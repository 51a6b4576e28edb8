"""Configs that config.json of the official layouts cannot express are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from auris.config import ProjectorConfig
from auris.errors import ConfigError
from tests.checkpoints.files import FOREIGN
from tests.checkpoints.test_configs import config_json, with_encoder
from tests.tiny_models import ctc_config, qwen_config


@pytest.mark.parametrize("layout", FOREIGN)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"projector": ProjectorConfig(48)}, "another projector"),
        ({"projector": ProjectorConfig(48, 32, bias=False)}, "another projector"),
        ({"projector": ProjectorConfig(48, 32, layer_norm=True)}, "another projector"),
        ({"frontend": "htk1024"}, "htk1024"),
        ({"encoder": {"norm": "rms"}}, "rms"),
        ({"encoder": {"norm_eps": 1e-6}}, "1e-06"),
        ({"encoder": {"stem": "conv1d"}}, "a conv1d stem"),
    ],
)
def test_configs_without_an_official_form_are_refused(
    layout: str, change: dict[str, Any], found: str
) -> None:
    if "encoder" in change:
        config = with_encoder(qwen_config(), **change["encoder"])
    else:
        config = dataclasses.replace(qwen_config(), **change)
    with pytest.raises(ConfigError, match=found):
        config_json(layout, config)


@pytest.mark.parametrize("layout", FOREIGN)
def test_ctc_has_no_official_layout(layout: str) -> None:
    with pytest.raises(ConfigError, match="CTC head"):
        config_json(layout, ctc_config())


def test_published_sections_of_the_real_head() -> None:
    config = qwen_config()
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, head_dim=128))
    text = config_json("published", config)["thinker_config"]["text_config"]
    assert text["rope_scaling"]["mrope_section"] == [24, 20, 20]
