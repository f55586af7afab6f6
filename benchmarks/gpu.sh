#!/usr/bin/env bash
# Everything a GPU is needed for, in one go and under 8 minutes: correctness, compute-sanitizer, the benchmark set.
#
#     bash benchmarks/gpu.sh [FOLDER]        # default: benchmarks/results
#
# Writes FOLDER/gpu_{op,table_2,up,layer}.csv, whose rows carry device, versions and date, a plot of each, and gpu.log.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python}
exec > >(tee "$out/gpu.log") 2>&1

$python -c 'import torch; assert torch.cuda.is_available(), "no GPU"; print(torch.cuda.get_device_name(), torch.__version__)'

echo "== correctness"
$python -m pytest -q -n 0 -p no:cacheprovider -m gpu tests/ops tests/test_cuda_graphs.py

if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    echo "== compute-sanitizer $tool"
    timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 1 $python benchmarks/sanitize.py
  done
else
  echo "== compute-sanitizer is not installed: left out"
fi

echo "== benchmarks"
bench() {
  local name=$1
  shift
  $python -m ddfnet bench "$@" --device cuda --csv "$out/gpu_$name.csv" --plot "$out/gpu_$name.png"
}
bench op op --cases table_a --dtype float32 bfloat16 --seconds 0.1 --rivals depthwise dense reference compile copy
bench table_2 op --cases table_2 --dtype float32 --seconds 0.2
bench up op --cases up --dtype float32 bfloat16 --seconds 0.1
bench layer layer --cases table_a --dtype float32 bfloat16 --clock graph eager --seconds 0.1
