#!/usr/bin/env bash
# Known vulnerabilities of the pinned packages, risky code, and a CycloneDX list per image (build/sbom).
set -euo pipefail
cd "$(dirname "$0")/.."
tool=(.venv/bin/uv tool run --quiet)
mkdir -p build/sbom
code=0
for image in operator trainer; do
  "${tool[@]}" --from pip-audit==2.10.1 pip-audit --disable-pip --require-hashes --progress-spinner off \
    --requirement "requirements/$image.lock" --format cyclonedx-json --output "build/sbom/$image.json" || code=1
done
"${tool[@]}" --from bandit==1.9.4 bandit --quiet --recursive --severity-level medium \
  operator trainer sidecar || code=1
exit "$code"
