#!/usr/bin/env bash
# Runs the Makefile's targets for Kubernetes: cluster.sh images|kind-up|kind-down|deploy|produce|dashboard
# It uses the cluster of kubectl's current context. For a kind cluster it also loads the images.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DOCKER:=docker}" "${KIND:=kind}" "${KUBECTL:=kubectl}" "${HELM:=helm}" "${CLUSTER:=streaming-ml}" "${NAMESPACE:=ml}"
release=streaming-ml # as in producer/job.yaml
version=$(sed -nE 's/^version = "([^"]+)".*/\1/p' pyproject.toml)
images=(spark-apps=streaming-ml-spark producer=streaming-ml-producer kibana=streaming-ml-dashboards)
resources=kafkas.kafka.strimzi.io,elasticsearches.elasticsearch.k8s.elastic.co,kibanas.kibana.k8s.elastic.co
resources+=,sparkapplications.sparkoperator.k8s.io
timeout_s=1200

say() { echo "── $*" >&2; }
fail() { echo "ERROR: $*" >&2; exit 2; }
need() { command -v "${!1}" >/dev/null || fail "${!1} is missing: $2, or set $1=/path/to/it"; }
kube() { "$KUBECTL" --namespace "$NAMESPACE" "$@"; }
reachable() {
  need KUBECTL "install kubectl"
  "$KUBECTL" version >/dev/null 2>&1 || fail "no cluster answers kubectl: run 'make kind-up', or choose one (kubectl config use-context NAME)"
}
clusters() { "$KIND" get clusters 2>/dev/null || true; }

images() {
  need DOCKER "install Docker"
  "$DOCKER" version >/dev/null 2>&1 || fail "the Docker daemon does not answer: start it"
  local image arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
  [ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE")
  for image in "${images[@]}"; do
    say "building ${image#*=}:$version (the first build takes some minutes)"
    "$DOCKER" build "${arguments[@]}" --file "${image%=*}/Dockerfile" --tag "${image#*=}:$version" .
  done
  "$DOCKER" images --filter "reference=streaming-ml-*:$version"
}

kind_up() {
  need KIND "install kind"
  if clusters | grep -qx "$CLUSTER"; then
    say "the cluster $CLUSTER exists"
    "$KIND" export kubeconfig --name "$CLUSTER"
  else
    say "creating the cluster $CLUSTER with kind (about a minute; longer the first time)"
    "$KIND" create cluster --name "$CLUSTER" --wait 180s
  fi
}

kind_down() {
  need KIND "install kind"
  say "deleting the cluster $CLUSTER with all that it holds"
  "$KIND" delete cluster --name "$CLUSTER"
}

load() { # loads the images into the cluster if kind created it
  local context names=("${images[@]#*=}")
  context=$("$KUBECTL" config current-context)
  if command -v "$KIND" >/dev/null && clusters | grep -qx "${context#kind-}"; then
    say "loading the images into the cluster ${context#kind-}"
    "$KIND" load docker-image --name "${context#kind-}" "${names[@]/%/:$version}"
  else
    say "this is not a kind cluster, so it must pull the images; set their names with ARGS=\"--set image.spark.repository=…\""
  fi
}

operators() {
  local pair missing=() flags=() watched="" list
  if "$HELM" get metadata operators --namespace operators 2>/dev/null | grep -qx 'CHART: operators'; then
    # An operator's rights are Roles in the namespaces that it watches. They are deleted with a namespace, but the CRDs remain.
    say "upgrading the release operators, so that the operators have rights in the namespace $NAMESPACE"
    flags+=(--reset-then-reuse-values)
    watched=$("$HELM" get values operators --namespace operators --all --output yaml | awk '/^[^-]/ {list = /^namespaces:/} list && /^-/ {print $2}')
  else
    for pair in kafkas.kafka.strimzi.io=strimzi-kafka-operator elasticsearches.elasticsearch.k8s.elastic.co=eck-operator \
      sparkapplications.sparkoperator.k8s.io=spark-operator; do
      if "$KUBECTL" get crd "${pair%=*}" >/dev/null 2>&1; then flags+=(--set "${pair#*=}.enabled=false"); else missing+=("${pair#*=}"); fi
    done
    if [ ${#missing[@]} = 0 ]; then
      say "the operators of Kafka, Elasticsearch and Spark are installed, but not by the release operators in the namespace operators." \
        "So they are left as they are; they must watch the namespace $NAMESPACE, and have rights in it"
      return
    fi
    say "installing ${missing[*]} into the namespace operators (a minute or two)"
  fi
  watched=$(printf '%s\n' "$watched" "$NAMESPACE" | grep . | sort -u | sed 's/.*/"&"/' | paste -sd,)
  for list in namespaces strimzi-kafka-operator.watchNamespaces eck-operator.managedNamespaces spark-operator.spark.jobNamespaces; do
    flags+=(--set-json "$list=[$watched]")
  done
  if "$HELM" dependency list charts/operators 2>&1 | grep -qE 'missing|wrong version'; then "$HELM" dependency update charts/operators; fi
  "$HELM" upgrade --install operators charts/operators --namespace operators --create-namespace "${flags[@]}" --wait --timeout 10m
}

parts() { # prints the state of the release's objects: Kafka=True … SparkApplication=RUNNING
  kube get "$resources" --selector "app.kubernetes.io/instance=$release" --output "jsonpath={range .items[*]}{.kind}=\
{.status.health}{.status.applicationState.state}{.status.conditions[?(@.type=='Ready')].status} {end}" 2>/dev/null | sed 's/ $//' || true
}

deploy() {
  need HELM "install Helm"
  reachable
  load
  "$KUBECTL" get namespace "$NAMESPACE" >/dev/null 2>&1 || "$KUBECTL" create namespace "$NAMESPACE"
  "$KUBECTL" label --overwrite namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
  operators
  if "$HELM" status "$release" --namespace "$NAMESPACE" >/dev/null 2>&1; then
    say "the images have the same tag $version as before, so running pods keep their code; to run new code: kubectl delete pod -n" \
      "$NAMESPACE $release-driver; before make produce: kubectl delete job -n $NAMESPACE producer"
  fi
  say "installing the release $release into the namespace $NAMESPACE, and loading the dashboards (3 to 5 minutes)"
  # shellcheck disable=SC2086 # ARGS holds several words
  "$HELM" upgrade --install "$release" charts/streaming-ml --namespace "$NAMESPACE" --timeout 15m ${ARGS:-} &
  local helm=$! running=yes now last=""
  # shellcheck disable=SC2064 # expanded now, because `helm` is local to this function
  trap "kill $helm 2>/dev/null || true" EXIT
  while true; do
    if [ $running ] && ! kill -0 $helm 2>/dev/null; then
      wait $helm || exit
      running=
    fi
    now=$(parts)
    [ "$now" = "$last" ] || say "$SECONDS s: $now"
    last=$now
    [ $running ] || [ -z "$now" ] || grep -qvE '=(True|green|yellow|RUNNING)$' <<<"${now// /$'\n'}" || break
    [ $SECONDS -lt $timeout_s ] || fail "not ready after $SECONDS s: see kubectl get events -n $NAMESPACE"
    sleep 2
  done
  say "ready after $SECONDS s; next: make produce, make dashboard"
}

produce() {
  reachable
  kube apply -f producer/job.yaml
  say "waiting for the producer's pod, then showing its log"
  local state pod shown=""
  while true; do
    pod=$(kube get pods --selector job-name=producer --sort-by=.metadata.creationTimestamp --output name | tail -n 1)
    if [ "$pod" != "$shown" ] && kube logs --follow "$pod" 2>/dev/null; then shown=$pod; fi
    state=$(kube get job producer --output 'jsonpath={.status.conditions[?(@.status=="True")].type}')
    case "$state" in
      *Failed*) fail "the producer failed; its log is above" ;;
      *Complete*) say "all records are sent; to see them: make dashboard"; return ;;
    esac
    [ $SECONDS -lt $timeout_s ] || fail "not done after $SECONDS s: kubectl describe job/producer -n $NAMESPACE"
    sleep 2
  done
}

dashboard() {
  reachable
  need HELM "install Helm"
  local port=${PORT:-5601} secret page login="a user of your Elasticsearch"
  page=$("$HELM" get notes "$release" --namespace "$NAMESPACE" 2>/dev/null | grep -oE '(/s/[a-z0-9_-]+)?/app/dashboards#/view/.*-streaming-ml') ||
    fail "there is no release $release with dashboards in the namespace $NAMESPACE: run 'make deploy'"
  kube get service "$release-kb-http" >/dev/null ||
    fail "the release has no Kibana, or not yet; if its value kibana.url is set, open that address"
  # The third user of this Elasticsearch is the viewer. An Elasticsearch outside the release has no such object.
  secret=$(kube get elasticsearch "$release" --ignore-not-found --output 'jsonpath={.spec.auth.fileRealm[2].secretName}')
  [ -z "$secret" ] ||
    login=$(kube get secret "$secret" --output 'go-template={{.data.username | base64decode}} / {{.data.password | base64decode}}')
  say "Kibana: https://localhost:$port$page   user / password: $login"
  say "the browser warns, because the cluster signed the certificate itself; Ctrl-C ends the connection"
  exec "$KUBECTL" --namespace "$NAMESPACE" port-forward "service/$release-kb-http" "$port:5601"
}

case "${1:-}" in
  images | kind-up | kind-down | deploy | produce | dashboard) "${1//-/_}" ;;
  *) sed -n '2s/^# //p' "$0" >&2; exit 2 ;;
esac
