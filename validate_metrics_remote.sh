#!/bin/sh
# Checks, on the machine where you sit, that a remote run's metrics arrive through an SSH tunnel.
set -u

usage() {
    cat <<'TEXT'
usage: ./validate_metrics_remote.sh [port]

Checks that
  1. an SSH tunnel forwards the local port (default 8000),
  2. http://localhost:<port>/metrics answers,
  3. fine-tuning metrics are among the answer,
  4. the specific metric types are available.

Without a tunnel but with an endpoint that answers (the run is on this machine) the first check is
only a warning. So is a metric that a run has not reported yet, such as the loss before its first
step, and GPU metrics on a machine without a GPU.

Exit code: 0 the metrics can be used, 1 they cannot, 2 wrong usage.

Open a tunnel with
  ssh -f -N -L 8000:localhost:8000 user@remote-server
TEXT
}

port=8000
case ${1-} in
    -h | --help) usage; exit 0 ;;
    '') ;;
    *[!0-9]*) echo "validate_metrics_remote: '$1' is no port; give a number such as 9000" >&2; exit 2 ;;
    *) port=$1 ;;
esac
if [ "$#" -gt 1 ]; then
    echo "validate_metrics_remote: one port is enough; see --help" >&2
    exit 2
fi
if [ "${#port}" -gt 5 ] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
    echo "validate_metrics_remote: port $port is not between 1 and 65535" >&2
    exit 2
fi
url="http://localhost:$port/metrics"

if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    esc=$(printf '\033')
    green="${esc}[32m" yellow="${esc}[33m" red="${esc}[31m" plain="${esc}[0m"
else
    green='' yellow='' red='' plain=''
fi
good() { printf '%s✓%s %s\n' "$green" "$plain" "$1"; }
warn() { printf '%s!%s %s\n' "$yellow" "$plain" "$1"; }
bad() { printf '%s✗%s %s\n' "$red" "$plain" "$1"; }
has() { command -v "$1" >/dev/null 2>&1; }

# An ssh command line that forwards this port: -L port:host:port, also with a bind address before.
tunnel_by_command() {
    has ps || return 1
    # -ww: a narrow $COLUMNS would cut the lines short.
    # shellcheck disable=SC2009 # pgrep is not everywhere, and its patterns differ
    ps -A -ww -o args= 2>/dev/null |
        grep -E "(^|/)ssh .*-[A-Za-z]*L *([^ ]*:)?$port:[^ ]+:[0-9]+" | grep -qv grep
}

# Programs that listen on this port, a line each: an ssh among them is a tunnel, also one by
# LocalForward in ~/.ssh/config, which leaves no trace elsewhere. Those of other users stay unknown.
listeners() {
    if has ss; then
        ss -tlnp 2>/dev/null | grep -E "[:.]${port}[[:space:]]" |
            sed -n 's/.*users:(("\([^"]*\)".*/\1/p'
    elif has lsof; then
        lsof -nP -iTCP:"$port" -sTCP:LISTEN 2>/dev/null | awk 'NR > 1 { print $1 }'
    elif has netstat; then
        netstat -tlnp 2>/dev/null | grep -E "[:.]${port}[[:space:]]" |
            sed -n 's|.* [0-9][0-9]*/\([^ :]*\).*|\1|p'
    fi | sort -u
}

fetch() {
    if has curl; then
        curl -fsS --noproxy '*' --max-time 10 "$url" 2>&1
    elif has wget; then
        wget -q --no-proxy -T 10 -t 1 -O - "$url" 2>&1
    else
        echo "neither curl nor wget is installed"
        return 1
    fi
}

# Whether a TLS handshake begins there. One without a certificate of ours may not end well.
encrypted() {
    has curl || return 1
    curl -ksv --noproxy '*' --max-time 5 -o /dev/null "https://localhost:$port/metrics" 2>&1 |
        grep -qiE 'certificate|SSL connection using'
}

# Number of series of a metric; histograms have _bucket, _sum and _count behind the name.
series() {
    printf '%s\n' "$page" | grep -cE "^$1(_bucket|_sum|_count)?[{ ]"
}

echo "Checking the metrics at $url"
found=$(listeners)
others=$(printf '%s\n' "$found" | grep -v '^ssh$' | tr '\n' ' ' | sed 's/ *$//')
if printf '%s\n' "$found" | grep -q '^ssh$'; then
    tunnel=yes
elif tunnel_by_command; then
    # With -N, ssh stays also when it could not have the port.
    if [ -n "$others" ]; then
        bad "An ssh wants to forward port $port, but $others has that port; give another one:"
        echo "  ssh -f -N -L <free port>:localhost:8000 user@remote-server"
        exit 1
    fi
    tunnel=yes
else
    tunnel=no
fi
page=$(fetch)
reached=$?

if [ $tunnel = yes ]; then
    good "SSH tunnel on port $port is active"
    if [ -n "$others" ]; then
        warn "$others listens on port $port as well; what answers may not be the tunnel"
    fi
elif [ $reached -eq 0 ]; then
    warn "No SSH tunnel on port $port; the endpoint on this machine itself is used"
else
    bad "No SSH tunnel on port $port; open one: ssh -f -N -L $port:localhost:8000 user@remote-server"
fi
if [ $reached -ne 0 ]; then
    if encrypted; then
        bad "What answers at port $port speaks https, which this check does not; by hand:"
        echo "  curl --cacert <its certificate> https://localhost:$port/metrics"
        echo "  With --tls-client-ca the server asks for yours as well: --cert <yours> --key <its key>"
        exit 1
    fi
    bad "Metrics endpoint is not accessible: $(printf '%s\n' "$page" | tail -n 1)"
    if [ $tunnel = yes ]; then
        echo "  The tunnel is there, but nothing answers at its far end. On the remote machine: is the"
        echo "  metrics server running (--enable-metrics), on the port that is forwarded, and does its"
        echo "  sshd allow forwarding (AllowTcpForwarding)?"
    fi
    exit 1
fi
good "Metrics endpoint is accessible"

count=$(printf '%s\n' "$page" | grep -c '^finetuning_')
if [ "$count" -eq 0 ]; then
    bad "No fine-tuning metrics: something else answers at $url"
    exit 1
fi
good "Fine-tuning metrics are present ($count series)"

# 2 and above: the run has succeeded, failed or been paused.
if printf '%s\n' "$page" | grep -qE '^finetuning_job_status\{.*\} [2-9]'; then
    why="of a run that has ended"
else
    why="yet"
fi
failed=0
for metric in job_status job_duration_seconds; do
    if [ "$(series "finetuning_$metric")" -gt 0 ]; then
        good "finetuning_$metric"
    else
        bad "finetuning_$metric is missing"
        failed=1
    fi
done
for metric in training_epoch training_step training_progress train_loss learning_rate \
    samples_per_second tokens_per_second checkpoints_total checkpoint_size_bytes; do
    if [ "$(series "finetuning_$metric")" -gt 0 ]; then
        good "finetuning_$metric"
    else
        warn "finetuning_$metric is not reported $why"
    fi
done
for metric in gpu_utilization_percent gpu_memory_used_bytes gpu_memory_total_bytes; do
    if [ "$(series "finetuning_$metric")" -gt 0 ]; then
        good "finetuning_$metric"
    else
        warn "finetuning_$metric is not reported (no GPU, or its driver does not tell)"
    fi
done

if [ $failed -ne 0 ]; then
    bad "The endpoint serves something, but not what a fine-tuning run exports"
    exit 1
fi
good "The metrics can be used"
