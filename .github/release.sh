#!/usr/bin/env bash
# The steps of .github/workflows/release.yml that are more than one command: release.sh version|notes|package REGISTRY DIGESTS TO
#   version   prints the version of pyproject.toml
#   notes     prints that version's section of CHANGELOG.md, whose heading is "## VERSION (DATE)"
#   package   writes into TO the chart streaming-ml and the producer's job.yaml, with the images REGISTRY/NAME of this
#             version and the digests in the files DIGESTS/NAME
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "ERROR: $*" >&2; exit 2; }
version=$(sed -nE 's/^version = "([^"]+)".*/\1/p' pyproject.toml)

notes() {
  local section
  section=$(awk -v version="$version" '/^## / {found = $2 == version; next} found' CHANGELOG.md)
  [ -n "${section//[[:space:]]/}" ] || fail "CHANGELOG.md has no section \"## $version (DATE)\""
  echo "$section"
}

package() { # in a copy: the repository keeps names of images that have no registry
  local registry=$1 digests=$2 to=$3 image tag
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  cp -r charts/streaming-ml producer/job.yaml "$copy"
  for image in streaming-ml-spark streaming-ml-dashboards streaming-ml-producer; do
    tag=$version@$(cat "$digests/$image")
    sed -i -E "/^ *repository: $image\$/,/^ *tag: /{s|repository: |&$registry/|; s|tag: .*|tag: $tag|}" "$copy/streaming-ml/values.yaml"
    grep -q "tag: $tag" "$copy/streaming-ml/values.yaml" || fail "values.yaml has no image $image with a tag"
  done
  image=streaming-ml-producer tag=$version@$(cat "$digests/streaming-ml-producer")
  sed -i -E "s|image: $image:.*|image: $registry/$image:$tag|" "$copy/job.yaml"
  grep -q "$tag" "$copy/job.yaml" || fail "producer/job.yaml has no image $image"
  if [ -n "${GITHUB_REPOSITORY:-}" ]; then # the place that publishes the chart
    printf 'home: %s\nsources: [%s]\n' "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" >>"$copy/streaming-ml/Chart.yaml"
  fi
  mkdir -p "$to"
  helm package "$copy/streaming-ml" --version "$version" --app-version "$version" --destination "$to"
  cp "$copy/job.yaml" "$to"
}

case "${1:-} $#" in
  "version 1") echo "$version" ;;
  "notes 1") notes ;;
  "package 4") package "$2" "$(realpath "$3")" "$(realpath -m "$4")" ;;
  *) sed -n '2,6s/^# //p' "$0" >&2; exit 2 ;;
esac
