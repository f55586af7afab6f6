"""What the site does beyond mkdocs: pages and pictures from outside `docs/`, and formulas as MathML.

Pages link to the repository's files as GitHub shows them, by relative paths. Here the links to what `SHARED` names lead to
its page or file of the site.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = {  # files of the repository: where in the site
    "README.md": "index.md",
    "README.zh-CN.md": "zh.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "LICENSE",
    "src/ddfnet/models/weights/README.md": "weights.md",
    **{
        path.relative_to(REPOSITORY).as_posix(): f"results/{path.name}"
        for path in sorted(REPOSITORY.glob("benchmarks/results/*"))
    },
}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
FORMULA = re.compile(r'<(?P<tag>div|span) class="arithmatex">\s*\\[\[(](?P<latex>.*?)\\[\])]\s*</(?P=tag)>', re.DOTALL)

IMAGE = re.compile(r'(<img [^>]*src="([^"]+)"[^>]*>)')


def on_files(files: Files, *, config: Any) -> Files:
    for path, uri in SHARED.items():
        files.append(File.generated(config, uri, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links to files of the repository as links within the site."""
    folder = Path(page.file.abs_src_path).resolve().parent

    def within_the_site(link: re.Match[str]) -> str:
        before, target, anchor, after = link.groups(default="")
        path = (folder / target).resolve()
        if "://" in target or not path.is_relative_to(REPOSITORY):
            return link[0]
        name = path.relative_to(REPOSITORY).as_posix()
        uri = SHARED.get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else None)
        if uri is None:
            return link[0]
        return f"{before}{posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor}{after}"

    return LINK.sub(within_the_site, markdown)


def on_page_content(content: str, *, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, which browsers draw by themselves; each picture opens at its own size."""

    def as_mathml(formula: re.Match[str]) -> str:
        display: Any = "block" if formula["tag"] == "div" else "inline"
        return convert(html.unescape(formula["latex"]).strip(), display=display)

    return IMAGE.sub(r'<a href="\2">\1</a>', FORMULA.sub(as_mathml, content))
