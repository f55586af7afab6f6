#!/usr/bin/env bash
# Everything a GPU is needed for, in one go: correctness, compute-sanitizer, the benchmark set.
#
#     bash benchmarks/gpu.sh [FOLDER]        # default: benchmarks/results
#
# Writes FOLDER/gpu_{op,table_2,up,layer}.csv, whose rows carry device, versions and date, a plot of each, and gpu.log. What
# fails is said and does not keep the rest from running; the exit status tells whether anything did.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python}
failed=()
exec > >(tee "$out/gpu.log") 2>&1

step() {
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

$python -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' || exit 1

step "every kernel once" $python benchmarks/sanitize.py # compiles what the sanitizers then run
step "correctness" timeout 240 $python -m pytest -q -n 4 -p no:cacheprovider -m gpu tests/ops tests/test_cuda_graphs.py
if command -v compute-sanitizer > /dev/null; then
  # Without PyTorch's cache each tensor is an allocation of its own, and what is read beside it is seen.
  step "memcheck" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
    timeout 90 compute-sanitizer --tool memcheck --error-exitcode 1 $python benchmarks/sanitize.py
  step "racecheck" timeout 90 compute-sanitizer --tool racecheck --error-exitcode 1 $python benchmarks/sanitize.py
else
  echo "== compute-sanitizer is not installed: left out"
fi

bench() {
  local name=$1
  shift
  step "bench $name" $python -m ddfnet bench "$@" --device cuda --csv "$out/gpu_$name.csv" --plot "$out/gpu_$name.png"
}
bench op op --cases table_a --dtype float32 bfloat16 --seconds 0.1 --rivals depthwise dense reference compile copy
bench table_2 op --cases table_2 --dtype float32 --seconds 0.2
bench up op --cases up --dtype float32 bfloat16 --seconds 0.1
bench layer layer --cases table_a --dtype float32 bfloat16 --clock graph eager --seconds 0.1

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
