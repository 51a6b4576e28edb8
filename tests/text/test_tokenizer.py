"""The tokenizer against that of transformers on the same files, and incremental decoding."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models

from auris.errors import TokenizerError, UsageError
from auris.text.prompt import CONTROL_TOKENS, TEXT_TAG, TURN_END
from auris.text.tokenizer import QWEN2_PATTERN, AddedId, Tokenizer, qwen2_core
from auris.training.units import ALPHABET, train_units
from tests.text.conftest import OFFICIAL_IDS
from tests.tiny_models import tiny_tokenizer

SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u2003\u2028\u3000\u200b\ufeff"
MARKS = "e\u0301o\u0308\u0323\u0323\u0308\u1100\u1161\u11a8\u0b47\u0b3e\u212b\u2126\uf900\u0340"
LETTERS = st.sampled_from("aZ'sßéИж你好ｱ한🙂\U0001f1e9\U0001f1ea٣½\u200d<|>_\x00" + SPACES + MARKS)
TEXTS = st.one_of(
    st.text(),
    st.text(LETTERS, max_size=40),
    st.lists(
        st.sampled_from(["it's", "WE'LL", " the quick", "\n\n", "  ", "12345", "language ", "你好"])
    ).map("".join),
)
SPECIAL = tiny_tokenizer().id(TURN_END)
TAG = tiny_tokenizer().id(TEXT_TAG)
SPARE = tiny_tokenizer().size + 3
IDS = st.lists(st.integers(0, tiny_tokenizer().size + 20) | st.sampled_from([SPECIAL, TAG, SPARE]))


def without_control(text: str) -> str:
    """A text in which no control token is spelled out."""
    for token in CONTROL_TOKENS:
        text = text.replace(token, "")
    return text


def ids_of_bytes(tokenizer: Tokenizer, content: bytes) -> list[int]:
    """Ids of single bytes, whatever they encode."""
    letters = {tokenizer.content(number): number for number in range(tokenizer.size)}
    return [letters[bytes([byte])] for byte in content]


def whole_characters(content: bytes) -> str:
    """The characters that are certain after these bytes, if the text is valid."""
    for cut in range(4):
        try:
            return content[: len(content) - cut].decode()
        except UnicodeDecodeError:
            continue
    raise AssertionError("not the beginning of valid UTF-8")


class TestEncode:
    @given(text=TEXTS)
    @example("e\u0301" + "\u0301" * 40)
    @example(" \n \n  a\u3000\u3000b'S 'LL")
    @example("\u0344\u2f868 \ufb1d")
    def test_equals_the_reference(self, tokenizer: Tokenizer, reference: Any, text: str) -> None:
        text = without_control(text)
        assert tokenizer.encode(text) == reference.encode(text)

    @given(text=st.lists(TEXTS | st.sampled_from([*CONTROL_TOKENS])).map("".join))
    def test_control_tokens_in_text_are_plain_text(self, tokenizer: Tokenizer, text: str) -> None:
        ids = tokenizer.encode(text)
        assert not {token.id for token in tokenizer.added.values()} & set(ids)
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)

    @pytest.mark.parametrize("token", CONTROL_TOKENS)
    def test_the_reference_encodes_them_as_control_tokens(
        self, tokenizer: Tokenizer, reference: Any, token: str
    ) -> None:
        """A known difference: typed text can end the turn in the reference, but not here."""
        assert reference.encode(token) == [tokenizer.id(token)]
        assert len(tokenizer.encode(token)) > 1
        assert tokenizer.encode(token) == reference.encode(token, split_special_tokens=True) or (
            token == TEXT_TAG
        )

    def test_a_lone_surrogate(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(UsageError, match=r"character 3 .* surrogate"):
            tokenizer.encode("ab\ud83d")

    def test_without_a_pre_tokenizer(self) -> None:
        core = Core(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
        core.decoder = decoders.ByteLevel()
        assert Tokenizer(core, {}).encode("abb") == [2, 1]


class TestDecode:
    @given(ids=IDS)
    def test_equals_the_reference(
        self, tokenizer: Tokenizer, reference: Any, ids: list[int]
    ) -> None:
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)

    @given(content=st.binary(max_size=12), places=st.lists(st.integers(0, 12), max_size=3))
    @example(b"\xf0\x9f\x99\x82", [2])
    @example(b"\xe4\xbd\xe4\xbd\xa0\xff", [1, 3])
    @example(b"\xf0\x80\x80\x80\xed\xa0\x80\xc0\xaf", [])
    def test_any_bytes_equal_the_reference(
        self, tokenizer: Tokenizer, reference: Any, content: bytes, places: list[int]
    ) -> None:
        """Special and unused ids are dropped, even inside a character; the tag ends what is before
        it."""
        ids = ids_of_bytes(tokenizer, content)
        for place, hidden in zip(places, (SPECIAL, SPARE, TAG), strict=False):
            ids.insert(place, hidden)
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)

    @given(ids=IDS)
    def test_streamed_text_joins_to_the_full_text(
        self, tokenizer: Tokenizer, ids: list[int]
    ) -> None:
        decoder = tokenizer.decoder()
        assert "".join([*map(decoder.push, ids), decoder.flush()]) == tokenizer.decode(ids)
        assert decoder.flush() == ""

    @given(text=TEXTS)
    def test_characters_are_complete_and_emitted_at_once(
        self, tokenizer: Tokenizer, text: str
    ) -> None:
        """After every id, exactly the characters are emitted whose last byte has arrived."""
        ids = tokenizer.encode(text)
        decoder = tokenizer.decoder()
        shown = list(accumulate(map(decoder.push, ids)))
        contents = accumulate(tokenizer.content(number) for number in ids)
        assert shown == [whole_characters(content) for content in contents]
        assert decoder.flush() == ""

    def test_a_tag_is_text_and_a_control_token_is_not(self, tokenizer: Tokenizer) -> None:
        ids = [tokenizer.id(token) for token in CONTROL_TOKENS]
        assert tokenizer.decode(ids) == TEXT_TAG

    def test_a_tag_ends_an_incomplete_character(self, tokenizer: Tokenizer) -> None:
        decoder = tokenizer.decoder()
        assert decoder.push(ids_of_bytes(tokenizer, b"\xe4")[0]) == ""
        assert decoder.push(TAG) == "\ufffd" + TEXT_TAG

    def test_a_token_outside_the_byte_table(self) -> None:
        """The reference writes such a token literally."""
        core = qwen2_core(models.BPE({"a": 0, "你 b": 1}, []))
        assert Tokenizer(core, {}).decode([0, 1]) == core.decode([0, 1]) == "a你 b"


class TestFiles:
    @given(text=TEXTS, ids=IDS)
    def test_both_file_formats_give_the_same_tokenizer(
        self, hf_directory: Path, published_directory: Path, text: str, ids: list[int]
    ) -> None:
        one, other = map(loaded, (hf_directory, published_directory))
        assert one.encode(text) == other.encode(text)
        assert one.decode(ids) == other.decode(ids)

    def test_both_file_formats_have_the_same_tokens(
        self, hf_directory: Path, published_directory: Path
    ) -> None:
        one, other = map(loaded, (hf_directory, published_directory))
        assert one.added == other.added == tiny_tokenizer().added
        assert one.size == other.size

    def test_tokenizer_json_round_trips(self, tokenizer: Tokenizer) -> None:
        again = Tokenizer.from_json(tokenizer.to_json())
        assert again.added == tokenizer.added
        assert again.size == tokenizer.size
        assert again.to_json() == tokenizer.to_json()
        assert again.encode(" it's 你好") == tokenizer.encode(" it's 你好")

    def test_gaps_between_ids_are_filled_for_other_readers(self, tokenizer: Tokenizer) -> None:
        """The tokenizers package numbers added tokens consecutively."""
        last = tokenizer.size
        added = {**tokenizer.added, "<far>": AddedId(last + 3, special=False)}
        gapped = Tokenizer(tokenizer.core, added)
        again = Tokenizer.from_json(gapped.to_json())
        assert again.size == gapped.size == last + 4
        assert {token: again.added[token] for token in added} == added
        assert Core.from_str(gapped.to_json()).token_to_id("<far>") == last + 3
        assert again.decode([last, last + 1, last + 2, last + 3]) == "<far>"

    def test_ids_are_those_of_the_file(self, tokenizer: Tokenizer) -> None:
        """Also where the file has gaps that the tokenizers package would close."""
        content = json.loads(tokenizer.to_json())
        content["added_tokens"][-1]["id"] += 40
        found = Tokenizer.from_json(json.dumps(content))
        assert found.id("<timestamp>") == tokenizer.id("<timestamp>") + 40
        assert found.decode([tokenizer.id("<timestamp>")]) == ""

    def test_tokenizer_json_takes_precedence(
        self, tmp_path: Path, published_directory: Path
    ) -> None:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(published_directory / name, tmp_path)
        (tmp_path / "tokenizer.json").write_text(tiny_tokenizer().to_json(), encoding="utf-8")
        assert Tokenizer.from_directory(tmp_path).added == tiny_tokenizer().added

    @pytest.mark.parametrize("absent", ["vocab.json", "merges.txt", "both", "directory"])
    def test_missing_files(self, tmp_path: Path, published_directory: Path, absent: str) -> None:
        for name in {"vocab.json", "merges.txt"} - {absent}:
            if absent not in ("both", "directory"):
                shutil.copy(published_directory / name, tmp_path)
        place = tmp_path / "none" if absent == "directory" else tmp_path
        with pytest.raises(TokenizerError, match=r"tokenizer\.json, or vocab\.json and merges"):
            Tokenizer.from_directory(place)

    def test_missing_tokenizer_config(self, tmp_path: Path, published_directory: Path) -> None:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(published_directory / name, tmp_path)
        with pytest.raises(TokenizerError, match="added_tokens_decoder"):
            Tokenizer.from_directory(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("tokenizer.json", b"{"),
            ("tokenizer.json", b"[]"),
            ("tokenizer.json", b"{}"),
            ("tokenizer.json", b"\xff\xfe\x00"),
            ("tokenizer.json", b""),
            ("vocab.json", b"{"),
            ("vocab.json", b'["a"]'),
            ("vocab.json", b'{"a": "b"}'),
            ("merges.txt", b"no such tokens\n"),
            ("merges.txt", b"\xff\xfe"),
            ("merges.txt", b""),
            ("merges.txt", b"#version: 0.2\n"),
            ("tokenizer_config.json", b"{"),
            ("tokenizer_config.json", b"[]"),
            ("tokenizer_config.json", b"{}"),
            ("tokenizer_config.json", b'{"added_tokens_decoder": []}'),
            ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {"content": "y"}}}'),
            ("tokenizer_config.json", b'{"added_tokens_decoder": {"1": {"content": "y"}}}'),
            ("tokenizer_config.json", b'{"added_tokens_decoder": {"1": "y"}}'),
        ],
    )
    def test_broken_files(
        self, tmp_path: Path, published_directory: Path, name: str, content: bytes
    ) -> None:
        for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            shutil.copy(published_directory / file, tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TokenizerError, match=str(tmp_path)):
            Tokenizer.from_directory(tmp_path)

    @pytest.mark.parametrize("token", CONTROL_TOKENS)
    def test_a_missing_control_token(self, tokenizer: Tokenizer, token: str) -> None:
        added = {text: number for text, number in tokenizer.added.items() if text != token}
        with pytest.raises(TokenizerError, match=re.escape(token)):
            Tokenizer(tokenizer.core, added).id(token)

    @pytest.mark.parametrize("decoder", [None, decoders.WordPiece(), decoders.Fuse()])
    def test_unsupported_vocabularies(self, decoder: Any) -> None:
        core = Core(models.BPE())
        if decoder is not None:
            core.decoder = decoder
        with pytest.raises(TokenizerError, match="byte-level or mark the beginnings of words"):
            Tokenizer(core, {})

    def test_the_size_is_the_largest_id_plus_one(self) -> None:
        core = qwen2_core(models.BPE({"a": 0, "b": 7}, []))
        assert Tokenizer(core, {}).size == 8
        assert Tokenizer(core, {"<x>": AddedId(9, special=True)}).size == 10


WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8), max_size=8)


class TestWordUnits:
    """Vocabularies of CTC models, which mark the beginnings of words."""

    @given(words=WORDS)
    def test_units_join_to_the_text(self, words: list[str]) -> None:
        text = " ".join(words)
        ids = units().encode(text)
        assert ids == units().core.encode(text, add_special_tokens=False).ids
        assert units().decode(ids) == units().core.decode(ids) == text

    @given(ids=st.lists(st.integers(0, 59)))
    def test_any_units_equal_the_library(self, ids: list[int]) -> None:
        decoder = units().decoder()
        pushed = "".join([*map(decoder.push, ids), decoder.flush()])
        assert pushed == units().decode(ids) == units().core.decode(ids)

    def test_only_the_first_boundary_has_no_space(self) -> None:
        boundary, letter = units().core.token_to_id("\u2581"), units().core.token_to_id("a")
        assert units().decode([boundary, letter, boundary, letter]) == "a a"
        assert units().decode([letter, boundary, letter]) == "a a"
        assert units().decode([boundary, boundary, letter]) == " a"

    def test_it_loads_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text(units().to_json(), encoding="utf-8")
        again = Tokenizer.from_directory(tmp_path)
        assert again.size == units().size == 60
        assert again.added == {}
        assert again.encode("the cat") == units().encode("the cat")


class TestQwenVocabulary:
    """The published vocabulary, its control tokens at their official ids, with gaps between."""

    def test_official_ids(self, qwen: Tokenizer) -> None:
        assert {token: number.id for token, number in qwen.added.items()} == OFFICIAL_IDS
        assert qwen.size == 151706

    @given(text=TEXTS)
    @example("Qwen3-ASR hört 100% zu: 你好，世界! e\u0301\u0323 don't  \n\n  WE'LL")
    def test_equals_the_reference(self, qwen: Tokenizer, qwen_reference: Any, text: str) -> None:
        text = without_control(text)
        ids = qwen.encode(text)
        assert ids == qwen_reference.encode(text)
        assert qwen.decode(ids) == qwen_reference.decode(ids) == unicodedata.normalize("NFC", text)

    @given(ids=st.lists(st.integers(0, 151935) | st.sampled_from([*OFFICIAL_IDS.values()])))
    def test_any_ids_equal_the_reference(
        self, qwen: Tokenizer, qwen_reference: Any, ids: list[int]
    ) -> None:
        assert qwen.decode(ids) == qwen_reference.decode(ids, skip_special_tokens=True)

    def test_transformers_reads_official_ids_from_the_written_file(
        self, qwen: Tokenizer, qwen_reference: Any
    ) -> None:
        found = qwen_reference.convert_tokens_to_ids([*OFFICIAL_IDS])
        assert dict(zip(OFFICIAL_IDS, found, strict=True)) == OFFICIAL_IDS


@cache
def loaded(directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(directory)


@cache
def units() -> Tokenizer:
    texts = ["the quick brown fox", "it's a cat", "the dog's house", *ALPHABET[1:]]
    return Tokenizer.from_json(train_units(texts * 9, 60).to_json())


@pytest.fixture(scope="module")
def qwen(qwen_directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(qwen_directory)


@pytest.fixture(scope="module")
def qwen_reference(qwen: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' tokenizer of our tokenizer.json of the published vocabulary."""
    out = tmp_path_factory.mktemp("qwen-json")
    (out / "tokenizer.json").write_text(qwen.to_json(), encoding="utf-8")
    (out / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(out)


def test_the_pattern_equals_that_of_the_reference() -> None:
    reference = pytest.importorskip("transformers.models.qwen2.tokenization_qwen2")
    assert QWEN2_PATTERN == reference.PRETOKENIZE_REGEX
