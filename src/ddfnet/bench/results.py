"""The results of a benchmark: one row per thing timed, with where and when; as CSV or JSON, written whole or not at all."""

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ddfnet.atomic import whole_or_absent


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The place and time of a measurement. Versions of packages that are missing are empty."""

    device: str  # "cpu" or "cuda"
    device_name: str
    threads: int  # of PyTorch on the CPU
    tf32: str  # where float32 may be rounded to TF32: "off", "convolutions", "products" or "convolutions and products"
    cudnn_benchmark: bool
    ddfnet: str
    torch: str
    cuda: str
    cudnn: str
    triton: str
    numba: str
    python: str
    date: str  # UTC, ISO 8601


@dataclass(frozen=True, kw_only=True)
class Result:
    """One thing, timed on one case. None where a column does not apply."""

    benchmark: str  # "op", "layer" or "model"
    case: str
    direction: str  # "forward" or "forward+backward"; for models "inference", "training" or "loading"
    dtype: str
    layout: str  # "nchw" or "channels_last"
    clock: str  # see `timers`
    subject: str  # what was timed
    backend: str = ""  # the kernels that served it, where it is ours
    median_ms: float  # per call
    lower_quartile_ms: float
    upper_quartile_ms: float
    samples: int
    rival: str  # what `ratio_to_rival` is against
    ratio_to_rival: float | None = None  # of medians; below 1 is faster than the rival
    ratio_to_copy: float | None = None
    bytes_moved: int | None = None  # each input read and each output written once, in each direction
    gigabytes_per_second: float | None = None  # of those bytes
    forward_flops: int | None = (
        None  # of the forward call, in either direction; each gradient costs about as much again
    )
    input_bytes: int | None = None  # inputs and parameters
    extra_bytes: int | None = None  # peak beyond those; see `memory`
    parameters: int | None = None
    multiply_adds: int | None = None  # for one image
    published: int | None = None  # these as the paper counts them, with batch norms and ReLUs
    images_per_second: float | None = None
    environment: Environment

    def flat(self) -> dict[str, Any]:
        """Return every column by name, the environment's last."""
        columns = asdict(self)
        where_and_when = columns.pop("environment")
        return {**columns, **where_and_when}


def environment(device: str) -> Environment:
    """Describe this process."""
    import torch

    on_cuda = device == "cuda"
    allowed = {
        "convolutions": on_cuda and torch.backends.cudnn.allow_tf32,
        "products": on_cuda and torch.backends.cuda.matmul.allow_tf32,
    }
    cudnn = torch.backends.cudnn.version() if on_cuda else None
    return Environment(
        device=device,
        device_name=torch.cuda.get_device_name() if on_cuda else _processor(),
        threads=torch.get_num_threads(),
        tf32=" and ".join(name for name, is_allowed in allowed.items() if is_allowed) or "off",
        cudnn_benchmark=on_cuda and torch.backends.cudnn.benchmark,
        ddfnet=_version("ddfnet"),
        torch=torch.__version__,
        cuda=(torch.version.cuda or torch.version.hip or "") if on_cuda else "",
        cudnn="" if cudnn is None else str(cudnn),
        triton=_version("triton"),
        numba=_version("numba"),
        python=platform.python_version(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write(results: Sequence[Result], path: Path) -> None:
    """Write a CSV or JSON file, by the ending of `path`.

    Raises:
        ValueError: another ending.
        OSError: the folder is not there or not writable.
    """
    rows = [result.flat() for result in results]
    if path.suffix not in (".csv", ".json"):
        raise ValueError(f"{path}: expected a name that ends in .csv or .json")
    with whole_or_absent(path) as partial, partial.open("w", newline="") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            writer = csv.DictWriter(file, _columns(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def read(path: Path) -> list[Result]:
    """Read the results that `write` wrote; optional columns that an older file lacks become None.

    Raises:
        ValueError: the file is not one of these.
        OSError: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(io.StringIO(text)))
        return [_result(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a result file of `ddfnet bench` ({error})") from error


def _columns() -> list[str]:
    own = [field.name for field in fields(Result) if field.name != "environment"]
    return own + [field.name for field in fields(Environment)]


def _result(row: dict[str, Any]) -> Result:
    def values(of: type) -> dict[str, Any]:
        hints = get_type_hints(of)
        optional = {name: None for name, hint in hints.items() if type(None) in get_args(hint)}
        found = {**optional, **row}
        return {name: _typed(found[name], hints[name]) for name in hints if name != "environment"}

    return Result(**values(Result), environment=Environment(**values(Environment)))


def _typed(value: Any, hint: Any) -> Any:
    """Convert a CSV cell to the type of its column; values from JSON have it already."""
    choices = get_args(hint) or (hint,)
    if type(None) in choices and value in ("", None):
        return None
    kind = choices[0]
    if kind is bool:
        return value in (True, "True")
    return kind(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
