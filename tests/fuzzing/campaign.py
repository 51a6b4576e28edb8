"""One process that runs inputs of a target, guided by coverage where atheris is installed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzzing.findings import HANG_SECONDS, Findings

MOST_MB = 2500
"""Memory of this process beyond which it ends with a finding."""

LONGEST_INPUT = 1 << 19


def main() -> None:
    """Run inputs for a number of seconds; the last line of the output is a summary in JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args()
    if options.blind or importlib.util.find_spec("atheris") is None:
        _run_blindly(options)
    else:
        _run_guided(options)


def _summary(findings: Findings, began: float, guided: bool) -> None:
    seconds = round(time.monotonic() - began)
    counts = {"inputs": findings.inputs, "seconds": seconds, "findings": len(findings.places)}
    print(json.dumps({**counts, "guided": guided}), flush=True)


def _run_blindly(options: argparse.Namespace) -> None:
    from tests.fuzzing.targets import TARGETS

    rng, findings = random.Random(options.seed), Findings(options.folder / "found")
    with tempfile.TemporaryDirectory() as scratch:
        target = TARGETS[options.target](Path(scratch))
        began = time.monotonic()
        while time.monotonic() - began < options.seconds:
            findings.run_alone(target, target.generate(rng))
        target.close()
    _summary(findings, began, guided=False)


def _run_guided(options: argparse.Namespace) -> None:
    import atheris

    # What the targets import is instrumented, so that is imported in here.
    with atheris.instrument_imports(include=["auris"], enable_loader_override=False):
        from tests.fuzzing.targets import TARGETS
    kind = TARGETS[options.target]
    if not kind.in_process:
        _run_blindly(options)
        return
    rng, findings = random.Random(options.seed), Findings(options.folder / "found")
    corpus = options.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        target = kind(Path(scratch))
        for data in target.corpus:
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        began = time.monotonic()
        last = [began]

        def test(data: bytes) -> None:
            findings.run(target, data)
            if time.monotonic() - last[0] > 10:
                last[0] = time.monotonic()
                _summary(findings, began, guided=True)

        def mutate(data: bytes, largest: int, seed: int) -> bytes:
            rng.seed(seed)
            if rng.random() < 0.5:
                return atheris.Mutate(data, largest)
            return target.generate(rng)[:largest]

        flags = [
            f"-max_total_time={options.seconds:.0f}",
            f"-timeout={HANG_SECONDS}",
            f"-rss_limit_mb={MOST_MB}",
            f"-max_len={LONGEST_INPUT}",
            f"-artifact_prefix={findings.folder}/",
            f"-seed={options.seed + 1}",
            f"-report_slow_units={HANG_SECONDS}",
            "-verbosity=0",
        ]
        atheris.Setup([sys.argv[0], *flags, str(corpus)], test, custom_mutator=mutate)
        with contextlib.suppress(SystemExit):
            atheris.Fuzz()  # Ends the process.


if __name__ == "__main__":
    main()
