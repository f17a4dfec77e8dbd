"""One line per event in the requested format, from every process."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

PROGRAM = """\
import logging, subprocess, sys, threading, warnings
from streaming_regression import logs

form, level = sys.argv[1:]
logs.set_up(level, form)
with logs.relayed(form):
    child = subprocess.Popen(["sh"], stdin=subprocess.PIPE, text=True)
log = logging.getLogger("streaming_regression.test")
log.info("ours %d", 1, extra={"values": {"rows": 3}})
log.debug("deep")
logging.getLogger("other").info("not asked for")
warnings.warn("mind this", stacklevel=1)
child.communicate('''
echo "WARNING: Using incubator modules: jdk.incubator.vector" >&2
echo '2026-01-02T03:04:05.678Z WARNING Java: "quoted"' >&2
echo '{"level": "WARNING", "logger": "Java", "message": "its own"}' >&2
cat <<'END' >&2
Traceback (most recent call last):
  File "lib/pyspark.zip/pyspark/daemon.py", line 262, in manager
  File "lib/pyspark.zip/pyspark/daemon.py", line 95, in worker
BrokenPipeError: [Errno 32] Broken pipe
Traceback (most recent call last):
  File "lib/pyspark.zip/pyspark/daemon.py", line 262, in manager
    "a line"
MemoryError
Hello "it"
END
''')
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a bug")
for thread in threading.enumerate():
    if thread.name == "stderr":
        thread.join()
"""


def lines(form: str, level: str = "INFO") -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, form, level], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_line_is_a_json_object_in_json() -> None:
    events = [json.loads(line) for line in lines("json")]
    assert all({"level", "logger", "message"} <= set(event) for event in events)
    by_message = {event["message"]: event for event in events}
    assert by_message["ours 1"].items() >= {"level": "INFO", "logger": "streaming_regression.test", "rows": 3}.items()
    assert by_message["its own"]["logger"] == "Java"
    assert by_message['Hello "it"']["level"] == "WARNING"
    assert "ZeroDivisionError" in by_message["a bug"]["exception"]
    assert any("mind this" in message for message in by_message)
    assert [len(message.splitlines()) for message in by_message if "MemoryError" in message] == [4]
    assert not [message for message in by_message if re.search("incubator|BrokenPipe|deep|not asked for", message)]


def test_every_event_has_a_time_and_a_level_in_text() -> None:
    start = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) "
    found = lines("text")
    assert any(re.fullmatch(start + "ours 1", line) for line in found)
    assert '2026-01-02T03:04:05.678Z WARNING Java: "quoted"' in found
    assert any(re.fullmatch(start + 'Hello "it"', line) for line in found)
    assert "MemoryError" in found
    assert not [line for line in found if re.search("incubator|BrokenPipe", line)]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_the_level_is_the_least_severe(level: str) -> None:
    levels = ["DEBUG", "INFO", "WARNING", "ERROR"]
    ours = {json.loads(line)["level"] for line in lines("json", level) if "streaming_regression.test" in line}
    assert ours == {"DEBUG", "INFO", "ERROR"} & set(levels[levels.index(level) :])
