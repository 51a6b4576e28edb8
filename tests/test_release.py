"""The scripts of a release, and what its files say."""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

import auris

ROOT = Path(auris.__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(not (ROOT / "scripts").exists(), reason="an installed package"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the scripts need tomllib"),
]


def script(name: str) -> ModuleType:
    loader = SourceFileLoader(name, str(ROOT / "scripts" / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def archive(path: Path, names: list[str], time: int) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(name), time, f"user{time}"
            out.addfile(member, io.BytesIO(name.encode()))
    return path


def test_archives_do_not_depend_on_when_they_were_made(tmp_path: Path) -> None:
    release = script("build_release")
    one = archive(tmp_path / "one.tar.gz", ["b", "a"], 1)
    two = archive(tmp_path / "two.tar.gz", ["a", "b"], 2)
    assert one.read_bytes() != two.read_bytes()
    for path in (one, two):
        release.even_times(path, 1_700_000_000)
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as content:
        assert [(m.name, m.mtime, m.uname) for m in content] == [
            ("a", 1_700_000_000, ""),
            ("b", 1_700_000_000, ""),
        ]
        member = content.extractfile("b")
        assert member is not None
        assert member.read() == b"b"


def test_every_bundled_file_is_listed_with_its_licence() -> None:
    listed = {
        one["name"]: one["licenses"][0]["expression"]
        for one in script("build_release").contents(ROOT)["components"]
        if one["type"] == "machine-learning-model"
    }
    bundled = ROOT / "src" / "auris" / "bundled"
    works = [path for path in bundled.iterdir() if path.is_dir()]
    names = {
        path.relative_to(ROOT / "src").as_posix()
        for work in works
        for path in work.rglob("*")
        if path.is_file()
    }
    assert set(listed) == names
    assert {"Apache-2.0", "CC-BY-SA-4.0"} == set(listed.values())
    assert listed["auris/bundled/english-lm/english.ngrams"] == "CC-BY-SA-4.0"


def test_platforms_that_disagree_are_named() -> None:
    find = script("check_platforms").disagreements
    same = [
        "portable int8 1a difference from portable 0",
        "avx2 int8 1a difference from portable 0",
    ]
    decoders = ["portable decoder 2b difference from portable 0", "neon decoder 3c difference 1e-3"]
    assert find({"gcc": same + decoders, "mingw": same + decoders}) == []
    other = [line.replace("1a", "ff").replace("3c", "ff") for line in same + decoders]
    assert find({"gcc": same + decoders, "mingw": other}) == ["decoder (fused)", "int8"]


def test_files_of_a_release_name_this_version() -> None:
    assert f"version: {auris.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## [{auris.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="the suffix is another one there")
def test_the_library_is_named_for_every_python(tmp_path: Path) -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert '"py3", "none"' in text
    from auris.backends import native

    assert "_native.so" in [path.name for path in native._paths()]


def test_actions_are_pinned_by_hash() -> None:
    used = [
        line.partition("uses:")[2].strip()
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert len(used) > 10
    loose = [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", one)]
    assert not loose
