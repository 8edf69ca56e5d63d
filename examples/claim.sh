# Sourced by the scripts beside it: kubectl of this checkout, and a short-lived pod on a claim.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
claim_pod=
namespace=

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}

kube() {
    "$kubectl" ${namespace:+--namespace "$namespace"} "$@"
}

# Sets $python, $kubectl, $image and KUBECONFIG.
find_tools() {
    python=$root/.venv/bin/python
    [ -x "$python" ] || python=$(command -v python3) || fail "no Python; run \`make setup\`"
    kubectl=$root/.cluster/bin/kubectl
    [ -x "$kubectl" ] || kubectl=$(command -v kubectl) || fail "no kubectl; run \`make cluster-up\`"
    if [ -z "${KUBECONFIG:-}" ] && [ -f "$root/.cluster/kubeconfig" ]; then
        export KUBECONFIG=$root/.cluster/kubeconfig
    fi
    image=${TRAINER_IMAGE:-}
    [ -n "$image" ] && return
    [ -f "$root/.cluster/images.json" ] || fail "no trainer image; run \`make images\`, or set TRAINER_IMAGE"
    image=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["trainer"])' "$root/.cluster/images.json")
}

# Start the pod on a claim; it is deleted when the script ends, however it ends.
open_claim() {
    claim_pod=$1-copy
    close_claim
    trap close_claim EXIT
    sed -e "s|POD_NAME|$claim_pod|; s|CLAIM_NAME|$1|; s|TRAINER_IMAGE|$image|" "$root/examples/claim-pod.yaml" |
        kube apply -f - >/dev/null
    wait_for_pod || {
        kube describe pod "$claim_pod" | sed -n '/^Events:/,$p' >&2
        fail "the pod that copies did not start"
    }
}

# For three minutes, and while the node pulls the image, which may be large; false when it does not start.
wait_for_pod() {
    local uid turns=36 told=
    uid=$(kube get pod "$claim_pod" --output jsonpath='{.metadata.uid}')
    until kube wait --for=condition=Ready --timeout=5s "pod/$claim_pod" >/dev/null 2>&1; do
        if is_pulling "$uid"; then
            [ -n "$told" ] || echo "$(basename "$0"): the node pulls $image" >&2
            told=yes
        else
            turns=$((turns - 1))
        fi
        ! has_failed && [ "$turns" -gt 0 ] || return 1
    done
}

is_pulling() {
    local seen
    seen=$(kube get events --field-selector "involvedObject.uid=$1" --output jsonpath='{.items[*].reason}' 2>/dev/null)
    [[ $seen == *Pulling* && $seen != *Pulled* ]]
}

# What waiting does not mend.
has_failed() {
    case $(kube get pod "$claim_pod" --output jsonpath='{.status.phase} {.status.containerStatuses[*].state.waiting.reason}') in
    Failed* | *ImagePullBackOff | *InvalidImageName | *ErrImageNeverPull) return 0 ;;
    *) return 1 ;;
    esac
}

# One that an earlier run left behind may have ended, or hold another image.
close_claim() {
    kube delete pod "$claim_pod" --ignore-not-found --wait=true >/dev/null
}

in_claim() {
    kube exec --stdin "$claim_pod" -- "$@"
}
