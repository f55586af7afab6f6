"""Floor 5: the command line. `main` finds the command and imports nothing that it does not need."""

import argparse
import os
import re
import sys
from importlib import import_module

import ddfnet

COMMANDS = {
    "train": "train a network by a recipe, or resume a run",
    "study": "train several recipes with several seeds; their means and spreads",
    "evaluate": "score a run on its test images; `evaluate depth`: all ways to upsample depth",
    "predict": "what a trained network sees in images: classes, boxes or depth",
    "upsample": "bring a depth map to the resolution of the RGB image over it",
    "bench": "time operators, layers and networks beside their rivals",
    "tables": "the paper's tables beside ours: counted, measured, or how to make them",
    "report": "the tables, all results and their pictures as one HTML page",
    "show": "pictures of what a network's DDF layers do to an image",
    "convert-checkpoint": "write the authors' weights as safetensors",
    "export": "write a network as a checked ONNX file, or a trained one as a folder to ship",
    "make-garments": "make the small detection data set, in COCO's format",
    "info": "versions, devices, and which backends this machine can use",
}

HELP = f"""\
usage: ddfnet COMMAND [options]

Decoupled dynamic filters for PyTorch, {ddfnet.__version__}.

commands:
{chr(10).join(f"  {name:<18} {text}" for name, text in COMMANDS.items())}

`ddfnet COMMAND --help` lists the options of a command; `ddfnet --version` prints the version.
`ddfnet train` without options trains a small DDF network on real images, in a few minutes on a CPU.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for wrong options, 1 for any other error, which is one sentence."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"ddfnet {ddfnet.__version__}")
        return 0
    if name not in COMMANDS:
        print(f"ddfnet: unknown command {name!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"ddfnet.cli.{name.replace('-', '_')}").main(rest)
    except SystemExit as end:  # of --help
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        print("ddfnet: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if "DDFNET_TRACEBACK" in os.environ:
            raise
        extra = "depth" if name == "upsample" else "all"
        wanted = f"the package {error.name!r}, which is not installed; pip install 'ddfnet[{extra}]' brings it"
        print(f"ddfnet {name}: needs {wanted}", file=sys.stderr)
        return 1
    except argparse.ArgumentError as error:
        print(
            f"ddfnet {name}: {_option_error(str(error))}\n(`ddfnet {name} --help` lists the options)", file=sys.stderr
        )
        return 2
    except Exception as error:
        if "DDFNET_TRACEBACK" in os.environ:
            raise
        print(f"ddfnet {name}: {_sentence(error)}\n(DDFNET_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    return code


def _sentence(error: Exception) -> str:
    """Return what is wrong as one line."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif text.startswith("Caught ") and "DataLoader worker" in text:  # with the worker's whole traceback behind it
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__


def _option_error(message: str) -> str:
    """Rewrite jsonargparse's nested report of a wrong option as one sentence: "model.lr: Expected a float. Got value: x"."""
    keys = re.findall(r'Parser key "([\w.]+)":', message)
    message = re.sub(
        r"class_path '[\w.]*?(\w+)':\s*Option '(\w+)' is not accepted",
        r"class_path '\1': Option '\2' is not accepted by \1",
        message,
    )
    text = re.sub(r"Parser key \"[\w.]+\":|Problem with given class_path '[^']*':", " ", message)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    return ": ".join([".".join(keys)] * bool(keys) + [" ".join(text.split())])
