#!/usr/bin/env bash
# Everything a GPU is needed for, in one go of less than 8 minutes: correctness, compute-sanitizer, the benchmark set.
#
#     bash benchmarks/gpu.sh [--dry-run] [FOLDER]        # default: benchmarks/results
#
# --dry-run prints the commands and checks that the files they name exist; it needs no GPU and runs nothing.
#
# First all that is not timed, side by side, for compiling kernels takes most of it and a core each. Then the benchmarks, each
# alone on the device; their kernels were compiled before. Then one table of what was measured beside the goals. Last
# torch.compile as a rival, which compiles for each case, for what is left of the time.
#
# Writes FOLDER/gpu_{op,table_2,up,layer,compile}.csv, whose rows carry device, versions and date, a plot of each, and gpu.log.
# What fails is said and does not keep the rest from running; the exit status tells whether anything did.
set -uo pipefail
cd "$(dirname "$0")/.."
dry=
if [[ ${1-} == --dry-run ]]; then
  dry=1
  shift
fi
out=${1:-benchmarks/results}
[[ $dry ]] || mkdir -p "$out"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python}
limit=470 # seconds, of the whole
logs=$(mktemp -d)
failed=()
names=()
pids=()
if [[ $dry ]]; then
  trap 'rm -rf "$logs"' EXIT
else
  exec > >(tee "$out/gpu.log") 2>&1
  tee=$!
  trap 'rm -rf "$logs"; exec >&- 2>&-; wait "$tee"' EXIT # the log is whole when the script ends
fi

# Runs a command for at most so many seconds, and no longer than the whole may take.
within() {
  local most=$1 left=$((limit - SECONDS))
  shift
  ((most < left)) || most=$left
  ((most > 0)) || most=1
  if [[ $dry ]]; then
    show "$@"
    return
  fi
  timeout -k 10 "$most" "$@"
}

# Prints a command instead of running it. Fails if a script or a folder of tests that it names is missing.
show() {
  local word missing=0
  echo "$*"
  for word in "$@"; do
    if [[ $word =~ ^(benchmarks/.*\.(py|sh)|tests/.*)$ && ! -e $word ]]; then
      echo "missing: $word"
      missing=1
    fi
  done
  return "$missing"
}

start() { # in the background
  local name=$1
  shift
  "$@" > "$logs/${#pids[@]}" 2>&1 &
  names+=("$name")
  pids+=($!)
}

finish() { # all that was started
  local i
  for i in "${!pids[@]}"; do
    wait "${pids[i]}" || failed+=("${names[i]}")
    echo "== ${names[i]} (after ${SECONDS} s)"
    cat "$logs/$i"
  done
}

step() {
  local name=$1
  shift
  echo "== $name (from ${SECONDS} s)"
  "$@" || failed+=("$name")
}

sanitize() { # every kernel once, which compiles them; then under both tools
  within 200 "$python" benchmarks/sanitize.py || return
  if [[ ! $dry ]] && ! command -v compute-sanitizer > /dev/null; then
    echo "compute-sanitizer is not installed: left out"
    return
  fi
  # Without PyTorch's cache each tensor is an allocation of its own, and what is read beside it is seen.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 within 120 compute-sanitizer --tool memcheck --error-exitcode 1 "$python" \
    benchmarks/sanitize.py &
  local memcheck=$! status=0
  within 120 compute-sanitizer --tool racecheck --error-exitcode 1 "$python" benchmarks/sanitize.py || status=1
  wait "$memcheck" || status=1
  return "$status"
}

bench() {
  local name=$1
  shift
  step "bench $name" within "$limit" "$python" -m ddfnet bench "$@" --device cuda --csv "$out/gpu_$name.csv" \
    --plot "$out/gpu_$name.png"
}

warm() { # compiles what `bench` times
  within 240 "$python" -m ddfnet bench "$@" --device cuda --rivals --seconds 0.001
}

[[ $dry ]] || "$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' || exit 1

both=(--dtype float32 bfloat16)
tests=(-m pytest -q -p no:cacheprovider -m gpu)
# Not a worker a file, for nearly all tests are in one.
start "correctness" within 240 "$python" "${tests[@]}" -n "$(nproc)" --dist worksteal tests/ops tests/test_cuda_graphs.py
start "sanitizers" sanitize
start "kernels of the operator" warm op --cases table_a table_2 up "${both[@]}"
start "kernels of the layer" warm layer --cases table_a "${both[@]}" --clock eager
finish

step "clocks" within 60 "$python" "${tests[@]}" -n 0 tests/bench/test_timers.py
bench op op --cases table_a "${both[@]}" --seconds 0.1 --rivals depthwise dense reference copy
bench table_2 op --cases table_2 --dtype float32 --seconds 0.2
bench up op --cases up "${both[@]}" --seconds 0.1
bench layer layer --cases table_a "${both[@]}" --clock graph eager --seconds 0.1
step "goals" within 30 "$python" benchmarks/gpu_goals.py "$out"
if ((limit - SECONDS > 20)); then
  echo "== torch.compile (from ${SECONDS} s), until ${limit} s"
  [[ $dry ]] || rm -f "$out/gpu_compile.csv"
  within "$limit" "$python" -m ddfnet bench op --cases table_2 table_a "${both[@]}" --device cuda --seconds 0.1 \
    --rivals depthwise compile copy --csv "$out/gpu_compile.csv"
  status=$?
  ((status == 0 || status == 124)) || failed+=("torch.compile") # 124: cut off, with what was measured until then written
  if [[ ! $dry && -e $out/gpu_compile.csv ]]; then
    "$python" -m ddfnet bench plot "$out/gpu_compile.csv" -o "$out/gpu_compile.png" || failed+=("plot of torch.compile")
  fi
fi

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
