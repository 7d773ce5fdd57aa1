#!/usr/bin/env bash
# Measure everything that needs a GPU, in under ten minutes: benchmarks/gpu.sh [IMAGES CAPTIONS]
# IMAGES and CAPTIONS (a folder, a COCO captions file) add the training throughput. Results: benchmarks/results/.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python}
limit() { timeout --kill-after=10 "$@"; }
failed=0
step() {
  echo "== $1"
  shift
  "$@" || { echo "gpu.sh: failed ($?): $*" >&2; failed=1; }
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || exit 2
# Tests first: figures of engines that disagree would say nothing.
step "GPU tests" limit 90 "$python" -m pytest -q -m gpu tests
step "one frame" limit 150 "$python" -m benchmarks.segmenter --device=cuda --repeats=20 --memory=false \
  --output=benchmarks/results/segmenter_cuda.json
step "eight cameras" limit 150 "$python" -m benchmarks.segmenter --device=cuda --repeats=10 --cameras=8 '--labels=[20]' \
  --memory=false --output=benchmarks/results/segmenter_cuda_8_cameras.json
step "engines" limit 120 "$python" -m benchmarks.engines --device=cuda --repeats=1 \
  --output=benchmarks/results/engines_cuda.json
if (($# == 2)); then
  step "training" limit 80 "$python" -m benchmarks.training_throughput "--images=$1" "--captions=$2" --batch=64 \
    --output=benchmarks/results/training_throughput_cuda.json
fi
exit "$failed"
