#!/usr/bin/env bash
# Sets up the Python environment for the demo and the programs: setup.sh FOLDER (usually .venv). Called by make.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 python=${PYTHON:-python3}

fail() { echo "$1" >&2; exit 2; }
command -v "$python" >/dev/null || fail "Python 3.10 or newer is needed (apt install python3 python3-venv, or set PYTHON=/path/to/python3)"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
  fail "Python 3.10 to 3.13 is needed, $python is $("$python" -V 2>&1): set PYTHON=/path/to/python3.x"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv is missing (apt install python3-venv)"
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null || fail "Java 17 or newer is needed (apt install openjdk-17-jre-headless, or set JAVA_HOME)"
major=$("$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -1)
[ "${major:-0}" -ge 17 ] || fail "Java 17 or newer is needed, $java is ${major:-unknown}: set JAVA_HOME to a newer one"

echo "setting up $venv: Python packages (620 MB to download, 1.2 GB on the disk; once, 1 to 3 minutes)"
"$python" -m venv "$venv"
"$venv/bin/python" demo/install.py demo/requirements.txt
# Spark puts these copies of its packages first on the path of its workers, and Python compiles imports from a zip file
# each time: 0.6 s for each process that a query starts. Without the copies the workers use the installed packages.
rm -f "$venv"/lib/python*/site-packages/pyspark/python/lib/*.zip
printf '%s\n' "$PWD" "$PWD/spark-apps" "$PWD/producer" "$PWD/kibana" \
  >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/streaming-ml.pth"
echo "archiving the classes that Spark loads, so that it starts in two thirds of the time (190 MB, once; 15 to 30 s)"
archive=$("$venv/bin/python" -c 'from streaming_regression.spark.session import CLASSES; print(CLASSES)')
if PYSPARK_SUBMIT_ARGS="--driver-java-options -XX:ArchiveClassesAtExit=$archive.new pyspark-shell" \
  "$venv/bin/python" spark-apps/archive.py >"$venv/archive.log" 2>&1; then
  mv -f "$archive.new" "$archive"
else
  echo "not archived, see $venv/archive.log: Spark will start, but not as quickly"
fi
touch "$venv/ready"
