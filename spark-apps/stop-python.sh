#!/bin/sh
# preStop hook of the driver: lets the app finish its micro-batch. Kubernetes alone would signal the JVM, which takes
# Python along at once.
for process in /proc/[0-9]*; do
  case "$(readlink "$process/exe")" in
    */python*) kill -TERM "${process#/proc/}"; while [ -e "$process" ]; do sleep 0.2; done ;;
  esac
done
