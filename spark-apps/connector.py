"""Puts Spark's Kafka connector among pyspark's own jars, with the Ivy that they include; for .venv and for the image.

Nothing is fetched when the app starts. `python spark-apps/connector.py` does nothing where the jars are there already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pyspark

JARS = Path(pyspark.__file__).parent / "jars"
CONNECTOR = "spark-sql-kafka-0-10_2.13"
MISSING = ("commons-pool2-", "kafka-clients-", "spark-token-provider-kafka-", f"{CONNECTOR}-")  # pyspark has the rest


def main() -> int:
    """Fetch the connector of pyspark's own version; the connector itself comes last, as the sign that all are there."""
    release = version("pyspark")
    if (JARS / f"{CONNECTOR}-{release}.jar").exists():
        return 0
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else shutil.which("java")
    if not java or not Path(java).exists():
        print("Java 17 or newer is needed: install a JRE, or set JAVA_HOME to one", file=sys.stderr)
        return 2
    print(f"fetching Spark's Kafka connector {release} (13 jars, about 20 s)", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=JARS.parent) as folder:
        ivy = subprocess.run(
            [
                *(java, f"-Divy.default.ivy.user.dir={folder}/ivy", "-jar", *JARS.glob("ivy-*.jar")),
                *("-dependency", "org.apache.spark", CONNECTOR, release, "-confs", "default"),
                *("-retrieve", f"{folder}/[artifact]-[revision](-[classifier]).[ext]"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found = [next(Path(folder).glob(f"{name}[0-9]*.jar"), None) for name in MISSING]
        if ivy.returncode or None in found:
            print(ivy.stdout[-2000:], file=sys.stderr)
            print("the connector could not be fetched: is Maven Central (or its mirror) in reach?", file=sys.stderr)
            return 3
        for jar in filter(None, found):
            jar.replace(JARS / jar.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
