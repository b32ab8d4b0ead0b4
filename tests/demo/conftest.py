"""The page, served as by a user, and a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Options for Debian's Chromium as root, without network requests of its own.
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Served:
    address: str
    process: subprocess.Popen
    folder: Path  # with its temporary files, home and working directory

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")  # not longer: Playwright keeps an event loop running in this thread
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    running = serve(folder)
    yield running
    running.stop()
    assert "Traceback" not in (folder / "said.txt").read_text()
    left = [path for place in ("tmp", "cwd") for path in (folder / place).rglob("*")]
    assert left == []  # neither uploads nor drawings


def serve(folder: Path) -> Served:
    """Start `fourdistill demo` with two diffusion steps, in its own folder."""
    for name in ("tmp", "home", "cwd"):
        (folder / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fourdistill.cli", "demo", "--port", str(port), "--steps", "2"]
    paths = {"--base": "data/base/mini", "--adapter": "models/mini-adapter", "--examples": "examples"}
    command += [word for option, path in paths.items() for word in (option, str(ROOT / path))]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    log = folder / "said.txt"
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder / "cwd", env=environment, stdout=said, stderr=said)
    until = time.monotonic() + 120
    while "Serving at" not in log.read_text():
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return Served(f"http://127.0.0.1:{port}", process, folder)
