#!/usr/bin/env bash
# Copy a job's model, histories and validation report out of its claim, and its status beside them (without
# checkpoints); of a job that failed or still trains what there is, for `finetuning report`.
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
what=model
if [ -z "$path" ]; then
    what="histories so far"
    path=$(kube get ftj "$job" --output jsonpath='{.status.checkpointPath}')
    path=${path%/checkpoints/*}
fi
if [ -z "$path" ]; then
    path=$(kube get ftj "$job" --output jsonpath='{.spec.output.storage.claimName}')
    [ -z "$path" ] || path=$path/$(kube get ftj "$job" --output jsonpath='{.spec.output.storage.subPath}')
    [ "${path%/}" = "$path" ] || path=$path$job
fi
[ -n "$path" ] || path=$(kube get pvc --output name --selector "finetuning.aim.amd.com/job-name=$job" | head -n 1)
nothing="$job has written nothing yet; see \`kubectl get ftj $job\`"
[ -n "$path" ] || fail "$nothing"
path=${path#pvc://}
path=${path#persistentvolumeclaim/}
claim=${path%%/*}
folder=${path#"$claim"}

open_claim "$claim"
# shellcheck disable=SC2016  # The pod's shell expands it.
in_claim sh -c 'cd "$1" && ls -A | grep -qv lost+found' sh "/claim$folder" </dev/null 2>/dev/null || fail "$nothing"
mkdir -p "$target"
# To tar a file that grew meanwhile, as those of a job that trains do, is no failure, but 1.
# shellcheck disable=SC2016  # The pod's shell expands it.
in_claim sh -c 'cd "$1" && tar --create --warning=no-file-changed --exclude=checkpoints --exclude=state \
    --exclude=lost+found -- * || [ $? = 1 ]' sh "/claim$folder" </dev/null |
    tar --extract --no-same-owner --directory "$target"
kube get ftj "$job" --output jsonpath='{.status}' >"$target/status.json"
echo "fetch.sh: $target holds $job's $what"
