#!/usr/bin/env bash
# Known vulnerabilities of the pinned packages, risky code, and a CycloneDX list per image (build/sbom).
# The vulnerabilities are asked of pypi.org itself: behind a mirror that has only files this fails, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=(.venv/bin/uv tool run --quiet)
mkdir -p build/sbom
code=0
for image in operator trainer; do
  lock=requirements/$image.lock
  "${tool[@]}" --from cyclonedx-bom==7.5.0 cyclonedx-py requirements "$lock" \
    --output-reproducible --output-file "build/sbom/$image.json"
  "${tool[@]}" --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
    --progress-spinner off --requirement "$lock" || code=1
done
"${tool[@]}" --from bandit==1.9.4 bandit --quiet --recursive --severity-level medium \
  --configfile pyproject.toml operator trainer sidecar || code=1
exit "$code"
