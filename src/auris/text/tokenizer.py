"""Token ids and text.

Text is always encoded as plain text, also if it contains the name of a control token; the ids of
control tokens come from `Tokenizer.id`. Decoding is incremental and gives whole characters only.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core

from auris.errors import TokenizerError, UsageError

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut for Qwen2's vocabulary; vocab.json and merges.txt do not say it."""

WORD_BOUNDARY = "\u2581"
"""Marks the beginning of a word in vocabularies that are not byte-level."""


def _byte_of_letter() -> dict[str, int]:
    """Byte-level vocabularies write bytes as printable letters (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return {**letters, **{chr(256 + index): byte for index, byte in enumerate(rest)}}


_BYTES = _byte_of_letter()


def check_unicode(text: str, name: str = "Text") -> None:
    """Refuse half a surrogate pair, which no tokenizer can read; UsageError with the name of what
    has to be right."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} has to be valid Unicode",
            f"character {error.start + 1} of {text!r:.60} is half of a surrogate pair",
            "write it as UTF-8",
        ) from None


def _bytes(token: str) -> bytes:
    """Bytes of a byte-level token; a token with letters outside the table is plain text."""
    known = all(letter in _BYTES for letter in token)
    return bytes(_BYTES[letter] for letter in token) if known else token.encode()


@dataclass(frozen=True)
class AddedId:
    """A token in addition to the vocabulary; special ones are left out of decoded text."""

    id: int
    special: bool


class Tokenizer:
    """A vocabulary with its control tokens: `added` has their ids by their text."""

    def __init__(self, core: Core, added: Mapping[str, AddedId]) -> None:
        self.core = core
        self.added = dict(added)
        self._of_id = {token.id: (text, token.special) for text, token in self.added.items()}
        self._byte_level = isinstance(core.decoder, decoders.ByteLevel)
        if not self._byte_level and not isinstance(core.decoder, decoders.Metaspace):
            raise TokenizerError(
                "A tokenizer has to be byte-level or mark the beginnings of words",
                f"its decoder is {type(core.decoder).__name__}",
                "use the tokenizer files that belong to the checkpoint",
            )
        self._contents: dict[int, bytes] = {}

    @classmethod
    def from_directory(cls, directory: str | Path) -> Tokenizer:
        """Read tokenizer.json, or vocab.json with merges.txt and tokenizer_config.json."""
        path = Path(directory)
        try:
            if (path / "tokenizer.json").exists():
                return cls.from_json((path / "tokenizer.json").read_text(encoding="utf-8"))
            if (path / "vocab.json").exists() and (path / "merges.txt").exists():
                return cls._from_vocabulary(path)
        except TokenizerError:
            raise
        # The tokenizers package raises plain Exception for whatever it cannot parse.
        except Exception as error:
            raise TokenizerError(
                f"The tokenizer files in {str(path)!r} cannot be read ({error})",
                "",
                "fetch them anew",
            ) from None
        raise TokenizerError(
            "A model directory has to hold tokenizer.json, or vocab.json and merges.txt",
            f"{str(path)!r} holds neither",
            "fetch the tokenizer files of the checkpoint",
        )

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """From the content of a tokenizer.json."""
        core = Core.from_str(text)
        # The tokenizers package numbers added tokens one after another, whatever their ids; those
        # in the file are the ones that the model was trained with.
        added = {
            str(token["content"]): AddedId(int(token["id"]), bool(token["special"]))
            for token in json.loads(text).get("added_tokens") or []
        }
        return cls(core, added)

    @classmethod
    def _from_vocabulary(cls, path: Path) -> Tokenizer:
        core = qwen2_core(models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
        added = _added_from_config(path / "tokenizer_config.json")
        # A file that breaks off at the end of a line is valid, but would split words into letters.
        lines = (path / "merges.txt").read_bytes().count(b"\n") + 1
        needed = core.get_vocab_size() - len(_BYTES) - len(added)
        if lines < needed:
            raise TokenizerError(
                "merges.txt has to hold the merges that make the tokens of vocab.json",
                f"{str(path / 'merges.txt')!r} has {lines} lines for at least {needed} tokens",
                "fetch it anew",
            )
        return cls(core, added)

    def added_without_gaps(self) -> dict[str, AddedId]:
        """Added tokens by id, with a spare special token for every unused id.

        Other readers number added tokens one after another, so files have to leave no gap.
        """
        vocabulary = self.core.get_vocab(with_added_tokens=False)
        unused = set(range(len(vocabulary), self.size)) - set(vocabulary.values())
        spare = {f"<|spare_{n}|>": AddedId(n, special=True) for n in unused - set(self._of_id)}
        tokens = {**self.added, **spare}
        return dict(sorted(tokens.items(), key=lambda item: item[1].id))

    def to_json(self) -> str:
        """The content of a tokenizer.json that gives this tokenizer again."""
        content = json.loads(self.core.to_str())
        rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        content["added_tokens"] = [
            {"id": token.id, "content": text, **rules, "special": token.special}
            for text, token in self.added_without_gaps().items()
        ]
        return json.dumps(content, ensure_ascii=False)

    @property
    def size(self) -> int:
        """One more than the largest id."""
        vocabulary = self.core.get_vocab(with_added_tokens=False)
        return max([-1, *vocabulary.values(), *self._of_id]) + 1

    @property
    def cuts_like_qwen2(self) -> bool:
        """Whether text becomes ids as with `qwen2_core`: what vocab.json and merges.txt imply."""
        return _cutting(self.core) == _cutting(qwen2_core(models.BPE()))

    def id(self, token: str) -> int:
        """The id of a control token; TokenizerError where the vocabulary has none."""
        if token not in self.added:
            raise TokenizerError(
                f"The model's tokenizer has to know the token {token}",
                "it does not",
                "use the tokenizer files that belong to the checkpoint",
            )
        return self.added[token].id

    def normalized(self, text: str) -> str:
        """Normalized text (NFC for Qwen); errors as of `check_unicode`."""
        check_unicode(text)
        normalizer = self.core.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: nothing in it becomes a control token. Errors as of `normalized`."""
        text = self.normalized(text)
        cutter = self.core.pre_tokenizer
        try:
            words = [word for word, _ in cutter.pre_tokenize_str(text)] if cutter else [text]
            return [token.id for word in words for token in self.core.model.tokenize(word)]
        # The tokenizers package raises plain Exception, for example where the unknown token that
        # a model names is not in its vocabulary.
        except Exception as error:
            raise TokenizerError(
                f"The tokenizer cannot encode a text ({error})", "", "fetch its files anew"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids without special tokens; bytes that are no character become U+FFFD."""
        decoder = self.decoder()
        return "".join([*(decoder.push(token) for token in ids), decoder.flush()])

    def decoder(self) -> TextDecoder:
        """A decoder for one text that arrives token by token."""
        return TextDecoder(self)

    def content(self, token: int) -> bytes | str:
        """The content of an id: bytes of the vocabulary, or the text of an added token."""
        if token in self._of_id:
            text, special = self._of_id[token]
            return "" if special else text
        if token not in self._contents:
            text_or_none: str | None = self.core.model.id_to_token(token)
            if text_or_none is None:
                # Embeddings have more rows than the vocabulary has tokens; as in the reference,
                # these rows have no text.
                self._contents[token] = b""
            elif self._byte_level:
                self._contents[token] = _bytes(text_or_none)
            else:
                self._contents[token] = text_or_none.replace(WORD_BOUNDARY, " ").encode()
        return self._contents[token]

    def bytes(self, token: int) -> bytes:
        """The bytes that an id writes, see `content`."""
        content = self.content(token)
        return content.encode() if isinstance(content, str) else content


class TextDecoder:
    """Text of one sequence of ids, released only in whole characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # A word-boundary vocabulary begins every text with a boundary that is no space.
        self._bare_start = not tokenizer._byte_level

    def push(self, token: int) -> str:
        """The whole characters that one more id completes; often none."""
        content = self._tokenizer.content(token)
        if isinstance(content, str):
            # An added token ends the bytes before it.
            return self.flush() + content if content else ""
        text = self._utf8.decode(content)
        if self._bare_start and text:
            self._bare_start = False
            text = text.removeprefix(" ")
        return text

    @property
    def pending(self) -> bool:
        """Whether bytes of a character wait for the others."""
        return bool(self._utf8.getstate()[0])

    def flush(self) -> str:
        """The rest at the end: incomplete characters, as U+FFFD."""
        return self._utf8.decode(b"", final=True)


def _cutting(core: Core) -> dict[str, Any]:
    """How a vocabulary normalizes and cuts text, without options that only change offsets."""

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: plain(part[key]) for key in sorted(part) if key != "trim_offsets"}
        return [plain(item) for item in part] if isinstance(part, list) else part

    content = json.loads(core.to_str())
    rules = {part: plain(content[part]) for part in ("normalizer", "pre_tokenizer")}
    return {**rules, "decoder": (content["decoder"] or {}).get("type")}


def qwen2_core(model: models.Model) -> Core:
    """A vocabulary with Qwen2's normalization and cutting around it."""
    core = Core(model)
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core


def _added_from_config(path: Path) -> dict[str, AddedId]:
    """Added tokens from `added_tokens_decoder` of tokenizer_config.json."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(token["content"]): AddedId(int(number), bool(token["special"]))
            for number, token in content["added_tokens_decoder"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(
            "tokenizer_config.json next to vocab.json has to list added_tokens_decoder",
            f"reading {str(path)!r} failed ({type(error).__name__}: {error})",
            "fetch the tokenizer files of the checkpoint",
        ) from None
