"""Removes the pods of executors that an earlier driver of this application has left behind.

A driver removes its executors' pods when it ends. A driver that is killed cannot, and Kubernetes keeps these pods, too:
they belong to the SparkApplication as well as to the driver's pod. The entry point runs this beside a new driver.
"""

from __future__ import annotations

import re
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from os import environ
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAME = re.compile(r"^spark\.kubernetes\.driver\.label\.sparkoperator\.k8s\.io/app-name\s*=\s*(\S+)", re.MULTILINE)
CALL_S = 20


def url(environment: Mapping[str, str], namespace: str, application: str) -> str:
    """Return the address of the application's executors that have ended."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
    selectors = {
        "labelSelector": f"sparkoperator.k8s.io/app-name={application},spark-role=executor",
        "fieldSelector": "status.phase!=Pending,status.phase!=Running",
    }
    place = f"{f'[{host}]' if ':' in host else host}:{port}/api/v1/namespaces/{namespace}/pods"
    return f"https://{place}?{urllib.parse.urlencode(selectors)}"


def main() -> None:
    """Delete the pods with one request; a failure is logged, and the next driver tries again."""
    properties = Path(environ.get("SPARK_CONF_DIR", ""), "spark.properties")
    found = NAME.search(properties.read_text(encoding="utf-8")) if properties.is_file() else None
    if not (found and (ACCOUNT / "token").is_file()):  # the driver was not started by the operator
        return
    namespace, token = ((ACCOUNT / name).read_text(encoding="utf-8") for name in ("namespace", "token"))
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url(environ, namespace, found[1]), headers=headers, method="DELETE")  # noqa: S310
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    try:
        urllib.request.urlopen(request, timeout=CALL_S, context=context).close()  # noqa: S310
    except OSError as error:
        sys.stderr.write(f"pods of earlier executors remain: {error}\n")


if __name__ == "__main__":
    main()
