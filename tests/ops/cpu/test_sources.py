"""The version of kernel sources changes with the sources, wherever they lie."""

import zipfile
from pathlib import Path

from ddfnet.ops.cpu.sources import source_version


def test_changes_with_the_python_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("b = 1")
    (tmp_path / "a.py").write_text("a = 1")
    first = source_version(tmp_path)
    assert first == source_version(tmp_path / "a.py", tmp_path / "b.py")
    (tmp_path / "notes.txt").write_text("")
    assert source_version(tmp_path) == first
    (tmp_path / "a.py").write_text("a = 2")
    assert source_version(tmp_path) != first


def test_is_the_same_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    for name in ("b.py", "a.py"):
        (tmp_path / "kernels" / name).write_text(name)
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (tmp_path / "kernels").iterdir():
            archive.write(path, path.relative_to(tmp_path))
    packed = zipfile.Path(tmp_path / "package.zip") / "kernels/"
    assert source_version(packed) == source_version(tmp_path / "kernels")
    assert source_version(packed / "a.py") == source_version(tmp_path / "kernels" / "a.py")
