#!/usr/bin/env python3
"""Make speech whose words are known in time: festival says where each of its phones lies.

    VOICE.jsonl  a recording a line: audio, text, and words with text, start and end in seconds

For `auris benchmark words`. Sentences are development texts (see synthesize_speech.py), so
that no model has been trained on them. Debian packages: festival festvox-kallpc16k
festvox-kdlpc16k festvox-us-slt-hts.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
from pathlib import Path

from flac_file import write_flac
from synthesize_speech import is_dev
from voices import FESTIVAL, read_wav

MOST_WORDS = 20


def plain_sentences(path: Path) -> list[str]:
    """Development sentences of letters and commas alone, which festival reads word for word."""
    sentences = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip().rstrip(".").lower()
        words = text.replace(",", "").split()
        if re.fullmatch(r"[a-z, ]+", text) and 4 <= len(words) <= MOST_WORDS and is_dev(text):
            sentences.append(text)
    return sentences


def speak(texts: list[str], voice: str, out: Path) -> list[list[tuple[str, float, float]]]:
    """Speak sentences into 00000.wav and so on; the words of each with start and end."""
    lines = [f"(voice_{voice})"]
    for number, text in enumerate(texts):
        lines += [
            f'(set! utt (SynthText "{text}"))',
            '(mapcar (lambda (w) (format t "%s %f %f\\n" (item.name w) '
            '(item.feat w "word_start") (item.feat w "word_end"))) '
            "(utt.relation.items utt 'Word))",
            f'(utt.save.wave utt "{out / f"{number:05d}.wav"}" \'riff)',
            '(format t "---\\n")',
        ]
    script = out / "speak.scm"
    script.write_text("\n".join(lines), encoding="ascii")
    done = subprocess.run(
        ["festival", "-b", str(script)], check=True, capture_output=True, text=True
    )
    script.unlink()
    clips: list[list[tuple[str, float, float]]] = [[]]
    for line in done.stdout.splitlines():
        if line == "---":
            clips.append([])
        else:
            word, start, end = line.split()
            clips[-1].append((word, float(start), float(end)))
    return clips[:-1]


def main() -> None:
    """Write a set of every voice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for FLAC and JSONL")
    parser.add_argument("--sentences", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--voice", nargs="*", default=FESTIVAL, choices=FESTIVAL)
    parser.add_argument("--count", type=int, default=100, help="sentences of each voice")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sentences = plain_sentences(args.sentences)
    random.Random(args.seed).shuffle(sentences)
    for number, voice in enumerate(args.voice):
        folder = args.out / voice
        folder.mkdir(parents=True, exist_ok=True)
        texts = sentences[number * args.count : (number + 1) * args.count]
        lines = []
        for clip, (text, words) in enumerate(zip(texts, speak(texts, voice, folder), strict=True)):
            if [word for word, _, _ in words] != text.replace(",", "").split():
                continue  # Read otherwise than it is written, such as a Roman number.
            wav = folder / f"{clip:05d}.wav"
            write_flac(wav.with_suffix(".flac"), read_wav(wav))
            wav.unlink()
            timed = [{"text": w, "start": start, "end": end} for w, start, end in words]
            audio = f"{voice}/{clip:05d}.flac"
            lines.append(json.dumps({"audio": audio, "text": text, "words": timed}))
        (args.out / f"{voice}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{args.out / voice}.jsonl: {len(lines)} clips")


if __name__ == "__main__":
    main()
