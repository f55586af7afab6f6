"""`benchmarks/gpu.sh` without a GPU: its dry run, and the table of goals that it prints."""

import subprocess
import sys
from pathlib import Path

from ddfnet.bench.results import Result, environment, write

ROOT = Path(__file__).parents[1]


def dry_run(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", script, "--dry-run"], capture_output=True, text=True, check=False, timeout=60)


def test_dry_run_names_every_command_and_runs_none() -> None:
    before = sorted(Path(ROOT, "benchmarks", "results").iterdir())
    done = dry_run(ROOT / "benchmarks" / "gpu.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("pytest", "benchmarks/sanitize.py", "compute-sanitizer", "bench layer", "benchmarks/gpu_goals.py"):
        assert command in done.stdout
    assert sorted(Path(ROOT, "benchmarks", "results").iterdir()) == before


def test_dry_run_misses_a_file(tmp_path: Path) -> None:
    script = tmp_path / "benchmarks" / "gpu.sh"
    script.parent.mkdir()
    script.write_text((ROOT / "benchmarks" / "gpu.sh").read_text())
    done = dry_run(script)
    assert done.returncode == 1
    assert "missing: benchmarks/sanitize.py" in done.stdout
    assert "failed: goals" in done.stdout


def row(benchmark: str, size: int, dtype: str, clock: str, to_rival: float, to_copy: float | None = None) -> Result:
    return Result(
        benchmark=benchmark,
        case=f"32x256x{size}x{size}-k3",
        direction="forward",
        dtype=dtype,
        layout="nchw",
        clock=clock,
        subject="ddf",
        median_ms=1.0,
        lower_quartile_ms=1.0,
        upper_quartile_ms=1.0,
        samples=3,
        rival="dense" if benchmark == "layer" else "depthwise",
        ratio_to_rival=to_rival,
        ratio_to_copy=to_copy,
        environment=environment("cpu"),
    )


def test_goals(tmp_path: Path) -> None:
    operator = [
        row("op", 14, "float32", "queued", 0.5, 2.0),  # small: its bandwidth has no goal
        row("op", 28, "float32", "queued", 0.75, 1.25),
        row("op", 56, "float32", "queued", 1.5, 1.0),
        row("op", 56, "bfloat16", "queued", 1.0, 2.0),
    ]
    layer = [row("layer", 56, "float32", "graph", 1.25), row("layer", 56, "float32", "eager", 2.5)]
    write(operator, tmp_path / "gpu_op.csv")
    write(layer, tmp_path / "gpu_layer.csv")
    script = ROOT / "benchmarks" / "gpu_goals.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True, timeout=60)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[1:] == [
        "14x14 float32 nchw forward 0.50 0.50 - -",
        "28x28 float32 nchw forward 0.80! 0.75 - -",
        "56x56 bfloat16 nchw forward 0.50 1.00 - -",
        "56x56 float32 nchw forward 1.00 1.50! 1.25! 2.50",
        "bandwidth: 1 of 2 hold, worst 0.80",
        "depthwise: 3 of 4 hold, worst 1.50",
        "dense: 0 of 1 hold, worst 1.25",
    ]
