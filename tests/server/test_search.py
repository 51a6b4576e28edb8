"""The search of requests: that of the server, unless they name their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from auris import AsrPipeline
from auris.server.settings import Settings
from auris.server.transcription_request import TranscriptionRequest
from tests.server.live import Live, running


@pytest.fixture(scope="module")
def texts(example: bytes) -> dict[str, str]:
    """The text of the example without a search and with the default one."""
    pipeline = AsrPipeline.from_pretrained("tiny-ctc", device="cpu")
    greedy = pipeline.transcribe(example, beam_size=1).text
    return {"greedy": greedy, "default": pipeline.transcribe(example).text}


def test_requests_name_their_own_beam(live: Live, example: bytes, texts: dict[str, str]) -> None:
    assert texts["greedy"] != texts["default"]
    answers = {
        beam: live.transcribe(example, model="tiny-ctc", **fields).json()["text"]
        for beam, fields in (("greedy", {"beam_size": "1"}), ("default", {}))
    }
    assert answers == texts


@pytest.mark.parametrize("setting", [{"beam_size": 1}, {"lm": "none"}])
def test_a_server_has_a_search_of_its_own(
    tmp_path: Path, example: bytes, texts: dict[str, str], setting: dict[str, object]
) -> None:
    settings = Settings(models=("tiny-ctc",), device="cpu", state_dir=str(tmp_path))
    with running(replace(settings, **setting)) as server:
        assert server.transcribe(example, model="tiny-ctc").json()["text"] == texts["greedy"]
        if "beam_size" in setting:
            answer = server.transcribe(example, model="tiny-ctc", beam_size="16")
            assert answer.json()["text"] == texts["default"]


def test_the_options_of_a_request_come_before_those_of_the_server(live: Live) -> None:
    served = live.server.models.pick("tiny")
    served = replace(served, beam_size=3, hotwords=("Ada",))
    plain = TranscriptionRequest(model="tiny")
    own = TranscriptionRequest(model="tiny", beam_size=1, keywords=("Bo", "Cleo"))
    sampled = TranscriptionRequest(model="tiny", temperature=0.5)
    searches = [
        (plain, 0.0, 3, ("Ada",)),
        (own, 0.0, 1, ("Bo", "Cleo")),
        (sampled, 0.5, None, ()),
    ]
    for request, temperature, beam_size, hotwords in searches:
        found = served.search(request)
        assert found == {
            "temperature": temperature,
            "beam_size": beam_size,
            "hotwords": hotwords,
        }
