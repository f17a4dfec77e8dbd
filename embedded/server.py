"""The base class of the Kafka and Elasticsearch servers: port, data folder, JVM, start and stop."""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import socket
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from py4j.protocol import Py4JError, Py4JJavaError

from embedded.errors import ConfigError, ServerUnavailable
from embedded.jvm import Jvm, root_cause

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601}{UTC} %-5p %c{1}: %m%n
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
logger.native.name = org.elasticsearch.nativeaccess
logger.native.level = error
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
TEMPORARY = "streaming-ml-"  # followed by the server's name, the owner's process id, and random letters
UNLOCK_TIMEOUT_S = 10.0  # a JVM whose parent was killed needs a moment to end


def free_port() -> int:
    """Return a free port of 127.0.0.1.

    It is below the range from which the kernel chooses ports for outgoing connections. Otherwise a client that keeps
    trying to reach a stopped server might be given the server's own port, and the server could not restart.
    """
    return next(port for port in random.sample(range(20_000, 30_000), 10_000) if is_free(port))


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: ignore TIME_WAIT
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Server(ABC):
    """A server in a JVM that ends whenever this process ends, even by SIGKILL.

    Use it as a context manager, or call `start` and, at the end, `close`. After `stop` or `kill`, another `start` uses
    the same port and data.

    Parameters
    ----------
    port
        The port on 127.0.0.1; 0 chooses a free port.
    data
        The folder for data and log; it is created if missing, and kept. None: a temporary folder, removed by `close`.
    heap
        The size of the JVM's heap, as in `-Xmx`.
    timeout_s
        Seconds that `start` waits for the server to answer.
    """

    name: ClassVar[str]

    def __init__(self, *, port: int, data: str | os.PathLike[str] | None, heap: str, timeout_s: float) -> None:
        if not re.fullmatch(r"[1-9]\d*[kmgKMG]", heap):
            raise ConfigError(f"{self.name}: the heap must be a number and k, m or g, as in 512m; not {heap!r}")
        self.port = port or free_port()
        self.heap = heap
        self.timeout_s = timeout_s
        self._jvm: Jvm | None = None
        self._ready = False
        self._remove_data: Callable[[], object] | None = None
        if data is None:
            _remove_abandoned()
            data = tempfile.mkdtemp(prefix=f"{TEMPORARY}{self.name}-{os.getpid()}-")
            self._remove_data = weakref.finalize(self, shutil.rmtree, data, ignore_errors=True)
        self.data = Path(data).absolute()

    @property
    def log(self) -> Path:
        """The log file, in the data folder."""
        return self.data / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        if self._jvm is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._jvm.pid

    @property
    def running(self) -> bool:
        """Whether the JVM is alive."""
        return self._jvm is not None and self._jvm.running

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises
        ------
        ConfigError
            The port is taken, the data folder is in use or not writable, or there is no Java.
        ServerUnavailable
            The server did not start.
        """
        if self.running:
            return
        try:
            self._start()
        except Py4JJavaError as error:  # not chained: its text is read from the JVM, which is about to end
            see = "" if self._remove_data else f"; see {self.log}"
            raise ServerUnavailable(f"{self.name} did not start: {root_cause(error)}{see}") from None
        except Py4JError:
            jvm = self._jvm
            end = f"no answer after {self.timeout_s:g} s" if jvm and jvm.running else "Java ended"
            raise ServerUnavailable(f"{self.name} did not start: {end}; {self.log_tail()}") from None
        except OSError as error:
            raise ConfigError(f"{self.name} cannot use its data folder {self.data}: {error}") from error
        finally:
            if not self._ready:
                self.kill()

    def _start(self) -> None:
        self.stop()  # clean up after a JVM that was killed
        self._ready = False
        config = self.data / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "log4j2.properties").write_text(LOG4J)
        with _locked(self.data / f"{self.name}.lock") as lock:
            if not is_free(self.port):
                raise ConfigError(
                    f"{self.name}: port {self.port} is taken: stop the program that uses it, or choose another port "
                    "(0: any free port)"
                )
            self._jvm = self._launch(lock)
        view = self._jvm.connect(self.timeout_s)
        self._jvm.at_exit(*self._boot(self._jvm, view))
        self._jvm.disconnect()
        self._wait_until(self._missing)
        self._ready = True

    def stop(self) -> None:
        """Stop the server in order; another `start` uses the same port and data."""
        if self._jvm is not None:
            self._jvm.stop()
            self._jvm = None

    def kill(self) -> None:
        """End the server by SIGKILL; another `start` uses the same port and data. Any thread may call this."""
        if self._jvm is not None:
            self._jvm.kill()

    def close(self) -> None:
        """Stop the server and remove its temporary folder."""
        self.stop()
        if self._remove_data:
            self._remove_data()

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log, with its path as the first line."""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return "\n".join([f"the end of {self.log}:", *tail])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until(self, missing: Callable[[], str]) -> None:
        deadline = time.monotonic() + self.timeout_s
        while text := missing():
            if time.monotonic() > deadline or not self.running:
                raise ServerUnavailable(f"{self.name} is not ready: {text}; {self.log_tail()}")
            time.sleep(0.05)

    @abstractmethod
    def _launch(self, lock: int) -> Jvm:
        """Return the server's JVM, which inherits the file descriptor `lock`."""

    @abstractmethod
    def _boot(self, jvm: Jvm, view: Any) -> tuple[Any, str]:  # noqa: ANN401 (py4j has no types)
        """Start the server inside `jvm`; return the Java object and the name of its method that ends the server."""

    @abstractmethod
    def _missing(self) -> str:
        """Return the reason why the server is not ready, or an empty string."""


def start_together(*servers: Server) -> None:
    """Start servers at the same time, which is faster than in turn; if a server fails, end all."""
    with ThreadPoolExecutor(len(servers)) as pool:
        try:
            for future in as_completed([pool.submit(server.start) for server in servers]):
                future.result()
        except BaseException:  # also on Ctrl-C, which interrupts only this thread, not the starts
            for server in servers:
                server.kill()
            raise


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Yield the file descriptor of a lock, which is held until all processes that inherited it have ended."""
    deadline = time.monotonic() + UNLOCK_TIMEOUT_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    message = f"the data folder {path.parent} is in use by another {path.stem}: choose another folder"
                    raise ConfigError(message) from error
                time.sleep(0.1)
        yield file.fileno()


def _remove_abandoned() -> None:
    """Remove the temporary folders whose owners were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*-*-*"):
        owner = folder.name.split("-")[-2]
        if owner.isdigit() and not _exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
