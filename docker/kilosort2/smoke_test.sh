#!/bin/sh
# Whether the compiled Kilosort2 starts in this image: docker run --rm --network none IMAGE
# It is given an empty folder, and must say that it misses its inputs there; a whole sort needs an NVIDIA GPU.
set -u
program=$(command -v ks2_compiled) || { echo "no program ks2_compiled on the PATH: $PATH"; exit 1; }
folder=$(mktemp -d)
MCR_CACHE_ROOT=$folder ks2_compiled "$folder" >"$folder/said" 2>&1
code=$?
if [ "$code" -eq 0 ] || grep -q -e "cannot open shared object" -e "Could not find version" "$folder/said"; then
    echo "$program does not start as it should (exit code $code):"
    cat "$folder/said"
    exit 1
fi
echo "$program starts; without inputs it ends with exit code $code"
