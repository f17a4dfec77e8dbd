"""The process on each executor from which Spark forks its Python workers, with the task's modules already imported.

The workers share these imports, which would cost each worker 0.5 s of CPU time and 60 MB. Spark's own daemon leaves
imports to the workers, because some packages start threads, and a fork does not copy threads. Here only jemalloc and
OpenBLAS start threads, and both libraries restart them after a fork.
"""

from __future__ import annotations

import gc
import importlib
import sys

from pyspark.daemon import manager

if __name__ == "__main__":
    if sys.argv[1:] == ["pyspark.worker"]:  # Spark also has workers that only plan the query
        for module in ("pyspark.worker", "streaming_regression.scoring"):
            importlib.import_module(module)
        # Spark's workers run the garbage collector after each task. It would scan these modules for 30 to 60 ms, longer
        # than a small task takes.
        gc.collect()
        gc.freeze()
    manager()
