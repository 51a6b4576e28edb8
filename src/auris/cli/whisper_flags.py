"""Options of the program whisper in command lines of `auris transcribe`."""

from __future__ import annotations

import sys
from collections import deque

from auris.errors import UnsupportedOption, UsageError

SWITCHES = {
    "--word-timestamps": ("--word-timestamps", None),
    "--vad-filter": ("--vad", "--no-vad"),
}
"""Options of whisper with the value True or False, and our options for both; None for none."""

RENAMED = {"--initial-prompt": "--context"}

TRUTH_VALUED = {
    *("--fp16", "--verbose", "--condition-on-previous-text", "--highlight-words"),
    "--carry-initial-prompt",
}
"""Options of whisper with the value True or False that have no effect here."""

TUNING = {
    *TRUTH_VALUED,
    *("--best-of", "--patience", "--length-penalty", "--suppress-tokens"),
    *("--temperature-increment-on-fallback", "--compression-ratio-threshold"),
    *("--logprob-threshold", "--no-speech-threshold", "--hallucination-silence-threshold"),
    *("--prepend-punctuations", "--append-punctuations", "--compute-type"),
}
"""Options of whisper, each with a value, that have no effect here."""

TRUTHS = {"True": True, "true": True, "False": False, "false": False}


def without_whisper_flags(arguments: list[str]) -> list[str]:
    """Arguments of the program in which, for `transcribe`, options of whisper are those of Auris.

    Args:
        arguments: with dashes in the names of options, up to a bare --.

    Raises:
        UnsupportedOption: the task is not "transcribe".
    """
    if arguments[:1] != ["transcribe"]:
        return arguments
    rest = deque(arguments)
    result: list[str] = []
    while rest:
        argument = rest.popleft()
        if argument == "--":
            return [*result, argument, *rest]
        name, equals, value = argument.partition("=")
        if name in SWITCHES:
            if not equals:
                value = rest.popleft() if rest and rest[0] in TRUTHS else "True"
            result += _switched(name, value)
        elif name in RENAMED:
            result.append(RENAMED[name] + equals + value)
        elif name == "--task" or name in TUNING:
            # Without a value, what follows is a recording.
            if not equals and rest and (name not in TRUTH_VALUED or rest[0] in TRUTHS):
                value = rest.popleft()
            _leave_out(name, value)
        else:
            result.append(argument)
    return result


def _switched(name: str, value: str) -> list[str]:
    """Our option for a switch with a value."""
    if value not in TRUTHS:
        raise UsageError(f"{name} has to be True or False", f"it is {value!r}", "correct it")
    chosen = SWITCHES[name][not TRUTHS[value]]
    return [chosen] if chosen else []


def _leave_out(name: str, value: str) -> None:
    """Say that an option has no effect; the task has to be the one that Auris has."""
    if name != "--task":
        given = f"{name} {value}".rstrip()
        sys.stderr.write(f"auris: {given} has no effect: Auris has no such option\n")
    elif value != "transcribe":
        raise UnsupportedOption(
            f"--task {value}".rstrip() + " is not supported",
            "",
            "leave it out; texts are not translated",
        )
