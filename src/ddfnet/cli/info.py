"""`ddfnet info`: versions, devices, and which backends this machine can use, and why not the others."""

import platform
from importlib import metadata

from ddfnet.cli.parsing import Parser


def main(argv: list[str]) -> int:
    Parser(prog="ddfnet info", description=__doc__).parse_args(argv)
    import torch

    import ddfnet
    from ddfnet.ops.ddf.api import KERNELS
    from ddfnet.ops.ddf.geometry import check

    print(f"ddfnet {ddfnet.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    packages = ("torch", "numba", "triton", "timm", "pytorch-lightning")
    print(", ".join(f"{name} {_version(name)}" for name in packages))
    devices = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if torch.xpu.is_available():
        devices += [f"xpu:{i}" for i in range(torch.xpu.device_count())]
    for device in devices:
        name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
        threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
        print(f"\n{device} ({name}{threads})")
        x = torch.zeros(1, 8, 8, 8, device=device)
        g = check(x, x.new_zeros(1, 8, 3, 3), None)
        chosen = False
        for backend, kernels in KERNELS.items():
            reason = kernels.unsupported(x, g)
            state = f"no: {reason}" if reason else "yes" if chosen else "yes, the default"
            chosen = chosen or not reason
            print(f"  {backend:<10} {state}")
        print(f"  {'reference':<10} yes, when asked for: Eq. 2 in plain PyTorch under ordinary autograd")
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
