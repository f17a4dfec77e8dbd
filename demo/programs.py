"""The project's programs as child processes of the demo."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import ServerUnavailable
from embedded.server import HOST, is_free

STOP_WITHIN_S = 40.0
PAGE_WITHIN_S = 20.0
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Program:
    """A program that runs as a child process, and writes its output to the file `log`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self, *, may_end: bool = False) -> bool:
        """Return whether the program has ended with code 0, if it `may_end`.

        Raises
        ------
        ServerUnavailable
            With the end of the program's log, if the program has failed, or has ended although it may not.
        """
        code = self.process.poll()
        if code is None:
            return False
        if may_end and code == 0:
            return True
        tail = "\n".join(self._lines()[-15:])
        raise ServerUnavailable(f"{self.name} ended with exit code {code}; the end of its log:\n{tail}")

    def address(self, port: int) -> str:
        """Return the live page's address once it answers, or a message: the demo also works without the page."""
        deadline = time.monotonic() + PAGE_WITHIN_S
        while is_free(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return f"could not be started, the demo goes on without it: {' '.join(self._lines()[-1:])}"
            time.sleep(0.1)
        return f"http://{HOST}:{port}  the dashboards, in a browser"

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()


@contextmanager
def running(module: str, folder: Path, *arguments: str) -> Iterator[Program]:
    """Start a program, with its log in `folder`, and stop it in order; it also ends if this process is killed."""
    log = folder / f"{module}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C must reach only this process, which stops the child
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - it makes one system call
        )
    try:
        yield Program(module, process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
