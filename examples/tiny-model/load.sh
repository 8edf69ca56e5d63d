#!/usr/bin/env bash
# Make the small base model where that is not done yet, and copy it into the claim `tiny-model`.
# Usage: bash examples/tiny-model/load.sh [NAMESPACE]      (default: the context's own)
# TRAINER_IMAGE names the image of the loader pod; else `make images` has left its name behind.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
namespace=(${1:+--namespace "$1"})
pod=tiny-model-loader

fail() {
    echo "load.sh: $*" >&2
    exit 2
}

python=$root/.venv/bin/python
[ -x "$python" ] || python=$(command -v python3) || fail "no Python; run \`make setup\`"
kubectl=$root/.cluster/bin/kubectl
[ -x "$kubectl" ] || kubectl=$(command -v kubectl) || fail "no kubectl; run \`make cluster-up\`"
if [ -z "${KUBECONFIG:-}" ] && [ -f "$root/.cluster/kubeconfig" ]; then
    export KUBECONFIG=$root/.cluster/kubeconfig
fi
image=${TRAINER_IMAGE:-}
if [ -z "$image" ]; then
    [ -f "$root/.cluster/images.json" ] || fail "no trainer image; run \`make images\` or set TRAINER_IMAGE"
    image=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["trainer"])' "$root/.cluster/images.json")
fi

kube() {
    "$kubectl" "${namespace[@]}" "$@"
}

model=${XDG_CACHE_HOME:-$HOME/.cache}/finetuning-operator/tiny-model/tiny-qwen2
"$python" "$here/make_model.py" --output "$model"

# A loader that an earlier run left behind may hold another image or have ended.
kube delete pod "$pod" --ignore-not-found --wait=true >/dev/null
trap 'kube delete pod "$pod" --ignore-not-found --wait=false >/dev/null' EXIT
sed "s|TRAINER_IMAGE  #.*|$image|" "$here/storage.yaml" | kube apply -f -
kube wait --for=condition=Ready --timeout=180s "pod/$pod" >/dev/null || {
    kube describe pod "$pod" | sed -n '/^Events:/,$p' >&2
    fail "the loader pod did not start"
}

# Beside the old one first: a job never sees half a model.
tar --create --directory "$model" --owner=1000 --group=1000 --mode=u=rwX,go=rX . |
    kube exec --stdin "$pod" -- sh -c '
        set -e
        rm -rf /model/.new && mkdir /model/.new
        tar --extract --no-same-owner --directory /model/.new
        rm -rf /model/tiny-qwen2 && mv /model/.new /model/tiny-qwen2'

sums() { sha256sum config.json model.safetensors tokenizer.json tokenizer_config.json; }
here_sums=$(cd "$model" && sums)
there_sums=$(kube exec "$pod" -- sh -c "cd /model/tiny-qwen2 && sha256sum config.json model.safetensors tokenizer.json tokenizer_config.json")
[ "$here_sums" = "$there_sums" ] || fail "the copy in the claim differs from $model"
echo "load.sh: pvc://tiny-model/tiny-qwen2 is ready"
