#!/usr/bin/env python
"""Transcribes a recording with the installed package: by the command line and by the server, which
also has to have its page.

    scripts/check_installed.py examples/kitchen_fan.flac

It uses nothing but the standard library, so that it runs in an empty environment.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PORT = 8917


def served(recording: Path) -> str:
    """The text that a server gives; its page is looked at by the way."""
    boundary = "boundary"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    body = parts.encode() + recording.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/audio/transcriptions",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        command = [sys.executable, "-m", "auris", "serve", "--port", str(PORT)]
        server = subprocess.Popen([*command, "--model", "tiny", "--state-dir", state])
        try:
            for _ in range(120):
                try:
                    with urllib.request.urlopen(request, timeout=60) as response:
                        text = str(json.loads(response.read())["text"])
                    look_at_page()
                    return text
                except urllib.error.URLError as error:
                    if isinstance(error, urllib.error.HTTPError):
                        raise
                    time.sleep(1)
            raise TimeoutError("the server did not come up")
        finally:
            server.terminate()
            server.wait(60)


def look_at_page() -> None:
    """The page is there, with every file that it or one of its modules names."""
    pending, seen = ["/"], set()
    while pending:
        path = pending.pop()
        seen.add(path)
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=60) as response:
            text = response.read().decode()
        assert text, path
        named = set(re.findall(r"""["'](?:page/|\./)?(\w+\.(?:js|css|svg))["']""", text))
        pending += {f"/page/{name}" for name in named} - seen - set(pending)
    assert len(seen) > 10, f"the page has no more than {sorted(seen)}"


def main() -> None:
    """Compare the two texts, of a package that has its native code."""
    native = "from auris.backends import native; assert native.available(), native.missing()"
    subprocess.run([sys.executable, "-c", native], check=True)
    recording = Path(sys.argv[1])
    command = [sys.executable, "-m", "auris", "transcribe", "--model", "tiny", str(recording)]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    answered = served(recording)
    assert written, "the command line gave no text"
    assert written == answered, f"{written!r} is not {answered!r}"
    print(written)


if __name__ == "__main__":
    main()
