"""The live page as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dashboards.panels import Names
from embedded import Elasticsearch, free_port


@contextmanager
def served(names: Names, search: Elasticsearch) -> Iterator[str]:
    """Run `python -m dashboards serve` as a process; yield its address."""
    port = free_port()
    flags = ["--features", ",".join(names.features), "--label", names.label, "--index-prefix", names.prefix]
    command = [sys.executable, "-m", "dashboards", "serve", "--elasticsearch-url", search.url, "--page-port", str(port)]
    process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = f"http://127.0.0.1:{port}"
        assert address in line, line + process.stderr.read()
        yield address
        process.terminate()
        rest = process.stderr.read()
        assert (process.wait(10), rest) == (0, "")
    finally:
        process.kill()
        process.communicate()
