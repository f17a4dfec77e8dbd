#!/bin/sh
# preStop hook of the driver: lets the app finish its micro-batch. Kubernetes alone would signal the JVM, which takes
# Python along at once. The other Python processes are Spark's workers, which the micro-batch still needs.
for process in /proc/[0-9]*; do
  case "$(readlink "$process/exe")" in */python*) ;; *) continue ;; esac
  tr '\0' ' ' <"$process/cmdline" | grep -q /streaming_regression/__main__.py || continue
  kill -TERM "${process#/proc/}"
  while [ -e "$process" ]; do sleep 0.2; done
done
