from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cassiopeia import files
from cassiopeia.errors import OperatorError


def test_a_tree_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "ca"

    with files.new_tree(target) as building:
        files.write_file(files.make_directory(building / "secret") / "key", "text")
        assert not target.exists()

    assert (target / "secret" / "key").read_text() == "text"
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "ca"
    target.mkdir()

    with files.new_tree(target) as building:
        files.write_file(building / "a", b"a")

    assert (target / "a").read_bytes() == b"a"


@pytest.mark.parametrize("kind", ["file", "full directory", "dangling link", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "ca"
    if kind == "file":
        target.write_text("precious")
    elif kind == "full directory":
        target.mkdir()
        (target / "key").write_text("precious")
    else:
        target.symlink_to(tmp_path / "elsewhere")
        if kind == "link":
            (tmp_path / "elsewhere").mkdir()
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(OperatorError, match="never overwritten"):
        build(target)

    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "ca"

    def appear() -> None:
        target.mkdir()
        (target / "key").write_text("precious")

    with pytest.raises(OperatorError, match="nothing was made"):
        build(target, appear)

    assert (target / "key").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (KeyboardInterrupt("z"), KeyboardInterrupt, "z"),
        (ValueError("x"), ValueError, "x"),
        (OperatorError("y"), OperatorError, "y"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OperatorError, "No space left on device: nothing was made"),
    ],
)
def test_after_an_error_nothing_is_left(
    tmp_path: Path, error: BaseException, expected: type[BaseException], message: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(expected, match=message):
        build(tmp_path / "ca", fail)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"{tmp_path}/gone: cannot make a directory here: No such file"):
        build(tmp_path / "gone" / "ca")


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(OperatorError, match="Not a directory"):
        build(tmp_path / "file" / "ca")


def test_a_name_that_the_system_does_not_take_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot look into it: File name too long"):
        build(tmp_path / ("x" * 256))


@pytest.mark.parametrize("umask", [0, 0o077, 0o277])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        directory = files.make_directory(tmp_path / "d", mode=files.PUBLIC_DIRECTORY)
        files.write_file(directory / "secret", b"x")
        files.write_file(directory / "public", b"x", mode=files.PUBLIC)
    finally:
        os.umask(before)

    assert mode_of(directory) == 0o755
    assert mode_of(directory / "secret") == 0o600
    assert mode_of(directory / "public") == 0o644


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    files.write_file(tmp_path / "key", b"old")

    with pytest.raises(FileExistsError):
        files.write_file(tmp_path / "key", b"new")

    assert (tmp_path / "key").read_bytes() == b"old"


def build(target: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
    with files.new_tree(target) as building:
        files.write_file(building / "key", b"new")
        meanwhile()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_file_is_there_completely_and_with_its_mode(tmp_path: Path) -> None:
    with files.new_file(tmp_path / "new", mode=0o644) as stream:
        stream.write(b"all of it")
        assert not (tmp_path / "new").exists()

    assert (tmp_path / "new").read_bytes() == b"all of it"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_a_new_file_takes_nobodys_place(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("nowhere")

    for name in ("old", "link"):
        with pytest.raises(OperatorError, match="nothing is overwritten"), files.new_file(tmp_path / name):
            pytest.fail("it was begun")
    with pytest.raises(OperatorError, match="nothing was written"), files.new_file(tmp_path / "new"):
        (tmp_path / "new").write_bytes(b"somebody was quicker")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "new", "old"]
    assert (tmp_path / "new").read_bytes() == b"somebody was quicker"


def test_a_new_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.new_file(tmp_path / "new") as stream:
        stream.write(bytes(1 // len(list(tmp_path.glob("none")))))
    with (
        pytest.raises(OperatorError, match="cannot make a file here: No such file or directory"),
        files.new_file(tmp_path / "nowhere" / "new"),
    ):
        pytest.fail("it was begun")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_gets_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    with files.new_tree(tmp_path / "tree", mode=files.SECRET_DIRECTORY):
        pass

    assert (tmp_path / "tree").stat().st_mode & 0o777 == 0o700


def test_files_take_the_place_of_others(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")

    files.replace_files({tmp_path / "old": b"newer", tmp_path / "new": b"new"})

    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"old": b"newer", "new": b"new"}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644


def test_files_are_replaced_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OperatorError, match="cannot be written: No space left on device"):
        files.replace_files({tmp_path / "a": b"new", tmp_path / "b": b"new"})

    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a": b"old"}


def test_files_in_a_directory_that_is_not_there_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written: No such file or directory"):
        files.replace_files({tmp_path / "gone/a": b"new"})


def test_a_tree_grows_under_a_name_that_is_little_longer(tmp_path: Path) -> None:
    """What is checked in there, as the path of a socket, shall not be refused for the length of a name that goes."""
    with files.new_tree(tmp_path / "signer") as building:
        assert len(building.name) <= len("signer") + 10
