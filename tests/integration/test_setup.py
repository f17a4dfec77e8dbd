"""The set-up of the Python environment shows what it downloads, from a real package index that is slow."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEEL = "heavy-1.0-py3-none-any.whl"
SECONDS = 12
"""The time that the index takes to send the wheel: two lines of progress."""


def wheel(folder: Path) -> bytes:
    """Return a package of 3 MB that cannot be compressed."""
    info = "heavy-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as file:
        file.writestr("heavy.bin", os.urandom(3_000_000))
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: heavy\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"heavy.bin,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return (folder / WHEEL).read_bytes()


@contextmanager
def slow_index(content: bytes, seconds: float) -> Iterator[str]:
    """A package index with one package, which it takes some seconds to send."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            body = content if self.path.endswith(".whl") else page
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if body is content else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            parts = 100 if body is content else 1
            step = -(-len(body) // parts)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(seconds / parts if body is content else 0)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()


def install(folder: Path, index: str, sha256: str) -> subprocess.CompletedProcess[str]:
    requirements = folder / "requirements.txt"
    elsewhere = "absent==1.0 ; python_version < '3' --hash=sha256:" + "0" * 64  # must not count
    requirements.write_text(f"heavy==1.0 --hash=sha256:{sha256}\n{elsewhere}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment |= {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    return subprocess.run(
        [folder / "venv" / "bin" / "python", ROOT / "demo" / "install.py", requirements],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


def test_a_slow_index_looks_alive_without_a_terminal_and_a_failure_is_not_a_success(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    content = wheel(tmp_path)
    with slow_index(content, 0) as index:
        refused = install(tmp_path, index, "1" * 64)
    with slow_index(content, SECONDS) as index:
        done = install(tmp_path, index, hashlib.sha256(content).hexdigest())
    assert done.returncode == 0, done.stderr
    progress = re.compile(r" +\d+ s, package 1 of 1, downloading heavy: (\d\.\d) of 3\.0 MB, 0\.[1-9] MB/s")
    *lines, last = done.stdout.splitlines()
    shown = [float(found[1]) for line in lines if (found := progress.fullmatch(line))]
    assert len(shown) >= 2, done.stdout
    assert shown == sorted(shown)
    assert 0 < shown[0] < 3
    assert re.fullmatch(r"  1 packages, 3 MB downloaded in \d+ s", last)
    assert next((tmp_path / "venv").rglob("heavy.bin")).stat().st_size == 3_000_000
    # A wheel that is not the locked one: pip says why, and nothing claims that packages were installed.
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "downloaded in" not in refused.stdout
