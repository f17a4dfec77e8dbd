"""A Java process that Python controls, and that ends whenever this Python process ends, even by SIGKILL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway
from py4j.protocol import Py4JError, Py4JJavaError

from embedded.errors import ConfigError

JAVA_MINIMUM = 17


def pyspark_jar(name: str) -> Path:
    """Return the jar with this name, without its version, from pyspark's jars."""
    spec = find_spec("pyspark")  # importing it would take half a second
    assert spec is not None  # noqa: S101 (it is installed with us)
    assert spec.origin is not None  # noqa: S101
    return next((Path(spec.origin).parent / "jars").glob(f"{name}-[0-9]*.jar"))


def machine_java() -> Path:
    """Return the machine's Java: that of JAVA_HOME if set, else the one on the PATH.

    Raises
    ------
    ConfigError
        When there is none, or it is older than Java 17.
    """
    remedy = f"install Java {JAVA_MINIMUM} or newer, or set JAVA_HOME to its folder"
    home = os.environ.get("JAVA_HOME")
    java = (Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")).absolute()
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        place = f"JAVA_HOME is {home}, which contains no working bin/java" if home else "there is no java on the PATH"
        raise ConfigError(f"Java was not found: {place}; {remedy}") from error
    version = re.search(r'version "(?:1\.)?(\d+)', answer)
    if version is None or int(version[1]) < JAVA_MINIMUM:
        raise ConfigError(f"{java} is Java {version[1] if version else 'of an unknown version'}; {remedy}")
    return java


def root_cause(error: Exception) -> str:
    """Return the root cause of a Java exception, whose JVM must still be running, or a Python exception's message."""
    if not isinstance(error, Py4JJavaError):
        return str(error) or type(error).__name__
    cause = error.java_exception
    while (inner := cause.getCause()) is not None:
        cause = inner
    return str(cause.toString())


class Jvm:
    """One Java process.

    The JVM reads its standard input and exits, through its shutdown hooks, at the end of input: the kernel closes our
    side of that pipe when this process ends, also by SIGKILL. The JVM has a session of its own, so a terminal's Ctrl-C
    reaches only this process, which then stops the JVM in order.

    Parameters
    ----------
    java
        The java program.
    classpath
        The jars.
    options
        Further options of the java program.
    log
        The file to which the JVM's output is appended.
    inherit
        File descriptors that stay open as long as the JVM runs, for locks.
    """

    def __init__(
        self, java: Path, classpath: Sequence[Path], options: Sequence[str], *, log: Path, inherit: Sequence[int] = ()
    ) -> None:
        jars = os.pathsep.join(map(str, [pyspark_jar("py4j"), *classpath]))
        gateway = ["py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0"]
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(  # not py4j's launch_gateway: its preexec_fn is unsafe with threads
                [str(java), *options, "-cp", jars, *gateway],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=log.parent,  # Java writes its crash file there
                start_new_session=True,
                pass_fds=inherit,
            )
        self._log = log
        self._gateway: Any = None

    def connect(self, timeout_s: float | None = None) -> Any:  # noqa: ANN401 (py4j has no types)
        """Return Py4J's view of the JVM; a call into it fails after `timeout_s` seconds."""
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        with self._process.stdout as stdout:
            port, token = (stdout.readline().decode(errors="replace").strip("# \n") for _ in range(2))
        if port and not port.isdigit():
            raise ConfigError(f"{self._log.stem}: Java does not start: {port} {token}")
        if not token:
            raise Py4JError("Java ended at once")
        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(
                port=int(port),
                auth_token=token,
                auto_convert=True,
                read_timeout=timeout_s,
                enable_memory_management=False,  # else finalizers would call an ended JVM
            )
        )
        view = self._gateway.jvm
        view.System.setOut(view.System.err)  # nothing reads standard output any more
        return view

    def array(self, *strings: str) -> Any:  # noqa: ANN401
        """Return a Java String[]."""
        array = self._gateway.new_array(self._gateway.jvm.String, len(strings))
        for i, string in enumerate(strings):
            array[i] = string
        return array

    def at_exit(self, target: Any, method: str) -> None:  # noqa: ANN401
        """Make the JVM call `target.method()` when it ends, except by SIGKILL."""
        java = self._gateway.jvm.java.lang
        signature = java.invoke.MethodType.methodType(self._void())
        handle = java.invoke.MethodHandles.publicLookup().findVirtual(target.getClass(), method, signature)
        java.Runtime.getRuntime().addShutdownHook(self._thread(handle.bindTo(target)))

    def main_thread(self, name: str) -> Any:  # noqa: ANN401
        """Return a thread, not started, that runs `main` of the class `name` without arguments."""
        java = self._gateway.jvm.java.lang
        signature = java.invoke.MethodType.methodType(self._void(), java.Class.forName("[Ljava.lang.String;"))
        handle = java.invoke.MethodHandles.publicLookup().findStatic(java.Class.forName(name), "main", signature)
        return self._thread(handle.bindTo(self.array()))

    def _void(self) -> Any:  # noqa: ANN401
        return self._gateway.jvm.java.lang.Class.forName("java.lang.Void").getField("TYPE").get(None)

    def _thread(self, handle: Any) -> Any:  # noqa: ANN401
        java = self._gateway.jvm.java.lang
        runnable = java.Class.forName("java.lang.Runnable")
        return java.Thread(java.invoke.MethodHandleProxies.asInterfaceInstance(runnable, handle))

    def disconnect(self) -> None:
        """Close the connection to the JVM, which keeps running."""
        self._gateway.shutdown()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 30) -> None:
        """End the process through its shutdown hooks, or by SIGKILL when that takes longer than `timeout_s`."""
        self._close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._gateway is not None:
            self._gateway.close(keep_callback_server=True)  # there is none; else Py4J logs a deprecation
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
