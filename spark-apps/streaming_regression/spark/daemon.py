"""The process on each executor from which Spark forks its Python workers, with the task's imports already done.

The workers share these imports: each of them would need 0.5 s of CPU time and 60 MB for its own. Spark's daemon leaves
imports to the workers because some packages start threads, and a fork copies none. Here only jemalloc's and OpenBLAS's
are started, and both libraries restart theirs after a fork.
"""

from __future__ import annotations

import gc
import importlib
import sys

from pyspark.daemon import manager

if __name__ == "__main__":
    if sys.argv[1:] == ["pyspark.worker"]:  # Spark also has workers that only plan the query
        for module in ("pyspark.worker", "streaming_regression.score"):
            importlib.import_module(module)
        # Spark's workers collect after each task: 30 to 60 ms over these modules, more than a small task takes.
        gc.collect()
        gc.freeze()
    manager()
