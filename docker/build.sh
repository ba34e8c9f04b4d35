#!/bin/sh
# docker/build.sh SORTER [OPTIONS OF docker build]
#
# Builds the image that use_docker=True takes for SORTER (kilosort2, kilosort4 or rt_sort), runs its smoke test in it
# without a network, and says what it is called and what built it. GPUS=all gives the smoke test the GPUs.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
sorter=${1:-}
if [ -z "$sorter" ] || [ ! -f "$here/$sorter/Dockerfile" ]; then
    echo "usage: docker/build.sh SORTER [OPTIONS OF docker build]; SORTER is kilosort2, kilosort4 or rt_sort" >&2
    exit 2
fi
shift

version=$(sed -n 's/^version = "\([^"]*\)".*/\1/p' "$here/../pyproject.toml")
image=spikelab/$sorter:$version

DOCKER_BUILDKIT=1 docker build --tag "$image" "$@" "$here/$sorter"
docker run --rm --network none ${GPUS:+--gpus "$GPUS"} "$image"
id=$(docker image inspect --format '{{.Id}}' "$image")
echo "$image is $id, built by Docker $(docker version --format '{{.Server.Version}}')"
