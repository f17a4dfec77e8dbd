"""The set-up of the Python environment shows what it downloads, from a real package index that is slow."""

from __future__ import annotations

import hashlib
import io
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

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"a-light": 3_000, "heavy": 3_000_000}
"""Name and bytes. pip takes them in this order, and keeps the first while it downloads the second."""
SECONDS = 12
"""The time that the index takes to send the wheel: two lines of progress."""


def wheel(name: str, size: int) -> bytes:
    """Return a package whose content cannot be compressed."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(f"{name}.bin", os.urandom(size))
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        names = [f"{name}.bin", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        file.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in names))
    return buffer.getvalue()


@contextmanager
def package_index(wheels: dict[str, bytes], seconds: float) -> Iterator[str]:
    """A package index that takes some seconds to send the package `heavy`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").split("/")[-1]
            file = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
            package = name.split("-1.0")[0].replace("_", "-") if name.endswith(".whl") else ""
            body = wheels[package] if package else f'<a href="/{file}">{file}</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if package else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            parts = 100 if package == "heavy" else 1
            step = -(-len(body) // parts)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(seconds / parts if package == "heavy" else 0)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()


def install(folder: Path, index: str, hashes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    requirements = folder / "requirements.txt"
    lines = [f"{name}==1.0 --hash=sha256:{digest}" for name, digest in hashes.items()]
    lines.append("absent==1.0 ; python_version < '3' --hash=sha256:" + "0" * 64)  # must not count
    requirements.write_text("\n".join(lines))
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


@pytest.mark.slow
def test_a_slow_index_looks_alive_without_a_terminal_and_a_failure_is_not_a_success(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    wheels = {name: wheel(name, size) for name, size in PACKAGES.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in wheels.items()}
    with package_index(wheels, 0) as index:
        refused = install(tmp_path, index, hashes | {"heavy": "1" * 64})
    with package_index(wheels, SECONDS) as index:
        done = install(tmp_path, index, hashes)
    assert done.returncode == 0, done.stderr
    progress = re.compile(r" +\d+ s, package 2 of 2, downloading heavy: (\d\.\d) of 3\.0 MB, 0\.[1-9] MB/s")
    *lines, last = done.stdout.splitlines()
    shown = [float(found[1]) for line in lines if (found := progress.fullmatch(line))]
    assert len(shown) >= 2, done.stdout
    assert shown == sorted(shown)
    assert 0 < shown[0] < 3
    assert re.fullmatch(r"  2 packages, 3 MB downloaded in \d+ s", last)
    assert next((tmp_path / "venv").rglob("heavy.bin")).stat().st_size == 3_000_000
    # The wheel has another hash than the locked wheel: pip says so, and no line says that packages were installed.
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "downloaded in" not in refused.stdout
