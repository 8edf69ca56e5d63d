#!/usr/bin/env bash
# Make the small base model where that is not done yet, and copy it into the claim `tiny-model`.
# Usage: bash examples/tiny-model/load.sh [NAMESPACE]      (default: the context's own)
# TRAINER_IMAGE names the image of the pod that copies; else `make images` has left its name behind.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/claim.sh
source "$here/../claim.sh"
namespace=${1:-}
find_tools

model=$root/runs/claims/tiny-model/tiny-qwen2
"$python" "$here/make_model.py" --output "$model"
kube apply -f "$here/storage.yaml"
open_claim tiny-model

# Beside the old one first: a job never sees half a model.
tar --create --directory "$model" --mode=u=rwX,go=rX . | in_claim sh -c '
    set -e
    rm -rf /claim/.new && mkdir /claim/.new
    tar --extract --no-same-owner --directory /claim/.new
    rm -rf /claim/tiny-qwen2 && mv /claim/.new /claim/tiny-qwen2'

files=(config.json model.safetensors tokenizer.json tokenizer_config.json)
here_sums=$(cd "$model" && sha256sum "${files[@]}")
# shellcheck disable=SC2016  # The pod's shell expands it.
there_sums=$(in_claim sh -c 'cd /claim/tiny-qwen2 && sha256sum "$@"' sh "${files[@]}" </dev/null)
[ "$here_sums" = "$there_sums" ] || fail "the copy in the claim differs from $model"
echo "load.sh: pvc://tiny-model/tiny-qwen2 is ready"
