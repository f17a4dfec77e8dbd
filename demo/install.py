"""Installs a requirements file with pip, and shows the file that pip downloads, the progress and the speed.

On a terminal, pip's own progress bars show it. Elsewhere pip is silent during a download, so a line is printed every
few seconds. It runs before any package is installed, so it uses the standard library only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

LINE_EVERY_S = 5.0
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass
class Progress:
    """What pip has done so far, from its output and the file that it downloads to."""

    total: int
    """Number of packages to install."""
    folder: Path
    """The folder in which pip keeps files while it downloads them."""
    looked_at: int = 0
    doing: str = "starting"
    file: str = ""
    """The file that is being downloaded."""
    size: float = 0.0
    """The complete size of this file in bytes; 0 while nothing is downloaded."""
    downloaded: float = 0.0
    """Bytes of all files that were downloaded before this file."""

    def read(self, lines: Iterable[str]) -> None:
        """Follow the lines that pip prints."""
        for line in lines:
            self.follow(line)

    def follow(self, line: str) -> None:
        """Take in one line of pip's output."""
        words = line.strip()
        if words.startswith("Ignoring "):  # not for this operating system or Python
            self.total -= 1
        elif words.startswith(("Collecting ", "Requirement already satisfied: ")):
            self.looked_at += 1
            self._begin(f"looking for {re.split('[=<>~! ;(]', words.split(': ' if ': ' in words else ' ', 1)[1])[0]}")
        elif found := re.match(r"Downloading (\S+) \(([\d.]+) (\w+)\)", words):
            address, amount, unit = found.groups()
            self.file = address.rpartition("/")[2]
            self._begin(f"downloading {self.file.split('-')[0]}")
            self.size = float(amount) * UNITS.get(unit, 0)
        elif found := re.match(r"Building wheel for (\S+) ", words):
            self._begin(f"building {found[1]}")
        elif words.startswith("Installing collected packages: "):
            self._begin(f"installing {words.count(',') + 1} packages")

    def _begin(self, doing: str) -> None:
        self.downloaded += self.size
        self.size = 0.0
        self.doing = doing

    def arrived(self) -> float:
        """Return the bytes of the current file that have arrived."""
        if not self.size:
            return 0.0
        # pip keeps each file in a folder of its own until it has installed all.
        return float(sum(path.stat().st_size for path in self.folder.glob(f"pip-unpack-*/{self.file}")))


def main() -> int:
    """Install the requirements file that the first argument names; return pip's exit code."""
    requirements = Path(sys.argv[1])
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    command += ["-r", str(requirements)]
    if sys.stdout.isatty():
        return subprocess.call(command)
    with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        progress = Progress(len(re.findall(r"^[\w.\[\]-]+==", requirements.read_text(), re.MULTILINE)), Path(folder))
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": folder})
        assert pip.stdout is not None  # noqa: S101 - it is a pipe
        Thread(target=progress.read, args=(pip.stdout,), daemon=True).start()
        _report(pip, progress)
    return pip.returncode


def _report(pip: subprocess.Popen[str], progress: Progress) -> None:
    """Print a line every few seconds until pip ends, and a line at the end."""
    begin = last = time.monotonic()
    before = 0.0
    while not _ended(pip):
        arrived, now = progress.arrived(), time.monotonic()
        speed = max(0.0, (progress.downloaded + arrived - before) / (now - last))
        before, last = progress.downloaded + arrived, now
        doing = progress.doing
        if progress.size:
            doing += f": {arrived / 1e6:.1f} of {progress.size / 1e6:.1f} MB, {speed / 1e6:.1f} MB/s"
        _say(f"  {now - begin:3.0f} s, package {progress.looked_at} of {progress.total}, {doing}")
    if pip.returncode == 0:
        megabytes = progress.downloaded / 1e6
        _say(f"  {progress.looked_at} packages, {megabytes:.0f} MB downloaded in {time.monotonic() - begin:.0f} s")


def _ended(pip: subprocess.Popen[str]) -> bool:
    try:
        pip.wait(LINE_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
