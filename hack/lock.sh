#!/usr/bin/env bash
# Resolves the dependencies into requirements/*.lock, with hashes and without download addresses.
# torch's CUDA libraries are left out: on a CPU they are never called, on ROCm they are wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
compile=(.venv/bin/uv pip compile --quiet --universal --python-version 3.11
  --generate-hashes --no-header --no-annotate "$@")
"${compile[@]}" --extra operator pyproject.toml -o requirements/operator.lock
besides=(--extra tensorboard --extra mlflow --extra wandb --extra signing)
"${compile[@]}" --extra trainer "${besides[@]}" --excludes requirements/excludes-torch.txt pyproject.toml \
  -o requirements/trainer.lock
# What the trainer's image holds, and the benchmarks: Dockerfile.trainer takes either.
"${compile[@]}" --extra trainer "${besides[@]}" --extra eval --constraint requirements/trainer.lock \
  --excludes requirements/excludes-torch.txt --overrides requirements/overrides.txt pyproject.toml -o requirements/eval.lock
"${compile[@]}" --excludes requirements/excludes.txt requirements/torch-cpu.in -o requirements/torch-cpu.lock
"${compile[@]}" --extra operator --extra trainer "${besides[@]}" --extra bench --extra dev \
  --excludes requirements/excludes.txt --overrides requirements/overrides.txt \
  pyproject.toml requirements/torch-cpu.in requirements/s3-server.in -o requirements/dev.lock
"${compile[@]}" requirements/docs.in -o requirements/docs.lock
"${compile[@]}" --no-deps requirements/peers.in -o requirements/peers.lock
