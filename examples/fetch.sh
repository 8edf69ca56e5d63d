#!/usr/bin/env bash
# Copy a finished job's model and its validation report out of its claim (without checkpoints).
# Usage: bash examples/fetch.sh JOB DIRECTORY [NAMESPACE]      (default: the context's own)
# TRAINER_IMAGE names the image of the pod that copies; else `make images` has left its name behind.
set -euo pipefail

# shellcheck source=examples/claim.sh
source "$(dirname "${BASH_SOURCE[0]}")/claim.sh"
[ $# -ge 2 ] || fail "usage: bash examples/fetch.sh JOB DIRECTORY [NAMESPACE]"
job=$1
target=$2
namespace=${3:-}
find_tools

path=$(kube get ftj "$job" --output jsonpath='{.status.modelPath}')
[ -n "$path" ] || fail "$job has no model yet; see \`kubectl get ftj $job\`"
path=${path#pvc://}
claim=${path%%/*}
folder=${path#"$claim"}

open_claim "$claim"
mkdir -p "$target"
# shellcheck disable=SC2016  # The pod's shell expands it.
in_claim sh -c 'cd "$1" && tar --create --exclude=checkpoints --exclude=state \
    --exclude=lost+found -- *' sh "/claim$folder" </dev/null |
    tar --extract --no-same-owner --directory "$target"
echo "fetch.sh: $target holds $job's model"
