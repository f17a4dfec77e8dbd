#!/bin/bash
# The entry point of the containers that Spark starts on Kubernetes: `driver ARGUMENTS…` or `executor`. It runs any other
# command unchanged.
set -eu
jars=("$SPARK_HOME"/jars/*.jar) # one by one, in the order in which they were when the archive of their classes was made
classes=$(IFS=: && echo "${jars[*]}")
case "${1:-}" in
  driver)
    shift
    python /opt/streaming-ml/remove_executors.py &
    command=("$SPARK_HOME/bin/spark-submit")
    # The jars come before the folder with Spark's properties, unlike in Spark's own script: Java uses the archive of
    # classes only if no folder comes first.
    grep -qs '^spark.driver.extraClassPath' "${SPARK_CONF_DIR:-}/spark.properties" || command+=(--driver-class-path "$classes")
    command+=(
      --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS"
      --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS"
      --deploy-mode client "$@") ;;
  executor)
    options=() # SPARK_JAVA_OPT_0, _1, … hold one option of the JVM each
    for name in $(compgen -v SPARK_JAVA_OPT_ | sort -V); do options+=("${!name}"); done
    command=(java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY"
      -cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$classes${SPARK_CONF_DIR:+:$SPARK_CONF_DIR}"
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES"
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP"
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME") ;;
  *) command=("$@") ;;
esac
exec tini -s -- "${command[@]}"
