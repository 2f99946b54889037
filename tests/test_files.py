"""Files have their old content or their new content, and users' errors are words without a traceback."""

import errno
import json
from pathlib import Path

import pytest
from rl_zoo3.utils import get_callback_list

from sb3_plastic import cli
from sb3_plastic.answers import is_users
from sb3_plastic.errors import UserError, check_choice
from sb3_plastic.files import replace_file, replacing, write_json


def test_a_file_is_written_in_a_folder_that_is_made(tmp_path):
    replace_file(tmp_path / "new" / "a.txt", "é")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é".encode()
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2], "b": 1}


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    replace_file(tmp_path / "a.bin", b"old")

    def interrupted() -> None:
        with replacing(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"ne")
            assert (tmp_path / "a.bin").read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_the_temporary_name_tells_the_format_and_is_never_shared(tmp_path):
    with replacing(tmp_path / "a.png") as one, replacing(tmp_path / "a.png") as two:
        assert one.suffix == two.suffix == ".png"
        assert one != two
        one.write_bytes(b"1")
        two.write_bytes(b"2")


def test_a_link_stays_a_link_and_what_it_points_to_is_written(tmp_path):
    replace_file(tmp_path / "v3.zip", "old")
    (tmp_path / "best.zip").symlink_to("v3.zip")
    replace_file(tmp_path / "best.zip", "new")
    assert (tmp_path / "best.zip").is_symlink()
    assert (tmp_path / "v3.zip").read_text() == "new"


def test_what_is_no_file_is_written_as_it_is_and_stays_what_it_is():
    replace_file(Path("/dev/null"), "nothing")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_a_file_is_named(tmp_path):
    replace_file(tmp_path / "file", "")
    with pytest.raises(FileExistsError, match=r"/file'$"):
        write_json(tmp_path / "file" / "a.json", {})


@pytest.mark.parametrize("path", [".", "", "results"])
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_written(path, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError, match=rf"Is a directory: '{path or '.'}'"), replacing(Path(path)):
        pytest.fail("there is nothing to write")
    assert [*tmp_path.iterdir()] == [tmp_path / "results"]


def test_a_name_as_long_as_names_can_be_can_be_written(tmp_path):
    replace_file(tmp_path / ("n" * 250 + ".zip"), "long")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"), replacing(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (UserError("x must be 1, got 2."), "x must be 1, got 2.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.zip"), "No space left on device: a.zip\nFree some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a.zip"), "Permission denied: a.zip\nChoose a folder"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.yml"), "No such file or directory: a.yml\n"),
    ],
)
def test_the_command_line_answers_users_errors_in_one_style(error, answer, monkeypatch, capsys):
    def fail(argv):
        raise error

    monkeypatch.setattr("sb3_plastic.report.cli.main", fail)
    assert cli.main(["report", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"sb3-plastic report: error: {answer}")


def test_a_callback_of_a_configuration_that_lacks_an_argument_is_the_users():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'start'") as raised:
        get_callback_list({"callback": "sb3_plastic.exploration.LogStdSchedule"})
    assert is_users(raised.value)


def test_errors_of_ours_keep_their_traceback(monkeypatch):
    def fail(argv):
        raise KeyError("x")

    monkeypatch.setattr("sb3_plastic.report.cli.main", fail)
    with pytest.raises(KeyError):
        cli.main(["report", "x"])


def test_a_clone_named_like_the_package_does_not_make_errors_of_libraries_those_of_users(monkeypatch):
    library = "clones/sb3_plastic/.venv/lib/python3.11/site-packages/torch/nn.py"
    failing = compile("def main(argv):\n    raise ValueError('of a library')", library, "exec")
    exec(failing, names := {})
    monkeypatch.setattr("sb3_plastic.report.cli.main", names["main"])
    with pytest.raises(ValueError, match="of a library"):
        cli.main(["report", "x"])


def test_an_unknown_name_is_answered_with_the_most_similar_one():
    with pytest.raises(UserError, match=r"Unknown rule 'ojo'. Did you mean 'oja'\? Allowed: hebb, oja\."):
        check_choice("rule", "ojo", ("hebb", "oja"))
    check_choice("rule", "oja", ("hebb", "oja"))
