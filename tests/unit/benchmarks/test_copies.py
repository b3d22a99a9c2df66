"""Copies of the package that planted bugs are put into."""

from __future__ import annotations

from pathlib import Path

from benchmarks._copies import copy_to_change


def test_what_is_changed_in_a_copy_stays_in_it_and_all_else_is_what_was_there(tmp_path: Path) -> None:
    package = tmp_path / "package"
    for name in ("a.py", "b.py", "below/c.py", "below/d.py", "beside/e.py"):
        source = package / name
        bytecode = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        bytecode.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(name)
        bytecode.write_text(f"of {name}")
    before = {path: path.read_text() for path in package.rglob("*.p*")}
    copy = tmp_path / "copy"
    copy_to_change(package, copy, ["a.py", "below/c.py"])
    assert (copy / "beside/e.py").read_text() == "beside/e.py"
    assert (copy / "below/__pycache__/d.cpython-311.pyc").read_text() == "of below/d.py"
    for changed in ("a.py", "below/c.py"):
        (copy / changed).write_text("changed")
        bytecode = copy / Path(changed).parent / "__pycache__" / f"{Path(changed).stem}.cpython-311.pyc"
        assert not bytecode.exists()
        bytecode.write_text("of what was changed")
    assert {path: path.read_text() for path in package.rglob("*.p*")} == before
