#!/usr/bin/env bash
# CIFAR-10 on one GPU, within 5 minutes: dense, depthwise and DDF networks at equal cost, as many seeds as fit.
#
#     bash benchmarks/gpu_study.sh [--dry-run] DATA [CSV]        # default: benchmarks/results/gpu_cifar10.csv
#
# DATA has sheets of 100 x 100 images (train_0.webp, ..., test_0.webp) and their labels (train_labels.npy, test_labels.npy);
# the test sheet and two training sheets suffice. A row is added to CSV as each run ends. `gpu_study.py` has the recipe.
#
# --dry-run trains narrow networks for two steps each on the CPU in plain PyTorch, into a file that is then removed.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$here/src:$here${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python}
options=()
if [[ ${1-} == --dry-run ]]; then
  shift
  rows=$(mktemp -d)
  trap 'rm -rf "$rows"' EXIT
  set -- "${1-}" "$rows/rows.csv"
  export DDFNET_BACKEND=torch # nothing to compile
  options=(--device cpu --width 16 --steps 2 --batch 8 --images 16 --seeds 1 --epochs 1)
fi
data=${1:?expected the folder of the data}
csv=${2:-$here/benchmarks/results/gpu_cifar10.csv}
timeout -k 10 295 "$python" "$here/benchmarks/gpu_study.py" "$data" "$csv" "${options[@]}"
if [[ ${rows-} ]]; then
  echo "$(($(wc -l < "$csv") - 1)) rows"
fi
