"""Starts the app repeatedly in one process with one JVM: a start takes one second instead of six."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """\
import json, sys
from streaming_regression.__main__ import main
for line in sys.stdin:
    try:
        code = main(json.loads(line))
    except SystemExit as end:
        code = end.code
    print(code, flush=True)
"""
TRACES = ("Traceback", "\tat ", "Exception", "Error:", "py4j")
"""Texts by which a stack trace of Python or Java is found in a log."""


@dataclass(frozen=True)
class Ending:
    """Exit code and log of a run of the app."""

    code: int
    log: str

    @property
    def sentence(self) -> str:
        """The message of the last line, which must be the only ERROR line."""
        assert not [trace for trace in TRACES if trace in self.log], self.log
        (error,) = (line for line in self.log.splitlines() if line.split(" ")[1] == "ERROR")
        assert error == self.log.splitlines()[-1], self.log
        return error.split(" ERROR ")[1]


class Repeated:
    """Starts the app's `main` with flags, in a process that has already imported it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def interrupt(self) -> None:
        """Send SIGINT to the running app, which then stops in order."""
        self._process.send_signal(signal.SIGINT)

    def start(self, flags: Sequence[str], timeout_s: float = 120) -> Ending:
        """Run the app to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begin = self._log.stat().st_size
        self._process.stdin.write(json.dumps(list(flags)) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        answer = self._process.stdout.readline() if ready else ""
        log = self._log.read_bytes()[begin:].decode()
        assert answer, f"{'the process ended' if ready else f'still running after {timeout_s:g} s'}:\n{log[-4000:]}"
        return Ending(int(answer), log)


@contextmanager
def repeated(log: Path) -> Iterator[Repeated]:
    """Yield a process in which the app can be started; it is killed at the end."""
    command = [sys.executable, "-c", PROGRAM]
    with (
        log.open("ab") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            yield Repeated(process, log)
        finally:
            process.kill()
