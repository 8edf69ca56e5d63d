#!/usr/bin/env bash
# Known vulnerabilities of the pinned packages, risky code, and a CycloneDX list per image (build/sbom).
# The vulnerabilities are asked of pypi.org itself: behind a mirror that has only files nobody can tell, and a line says so.
# Exit code 1 for findings alone.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=(.venv/bin/uv tool run --quiet)
mkdir -p build/sbom
code=0
for image in operator trainer; do
  lock=requirements/$image.lock report=build/advisories-$image.json
  "${tool[@]}" --from cyclonedx-bom==7.5.0 cyclonedx-py requirements "$lock" \
    --output-reproducible --output-file "build/sbom/$image.json"
  rm -f "$report"
  # Its own exit code is the same for a finding and for an index that does not answer.
  "${tool[@]}" --from pip-audit==2.10.1 pip-audit --disable-pip --require-hashes --progress-spinner off \
    --format json --output "$report" --requirement "$lock" 2> >(grep -v '^No known' | tail -1 >&2) || true
  .venv/bin/python -m hack.advisories "$lock" "$report" || code=1
done
"${tool[@]}" --from bandit==1.9.4 bandit --quiet --recursive --severity-level medium \
  --configfile pyproject.toml operator trainer sidecar || code=1
exit "$code"
