"""Where the laptop cloud remembers itself, and how it tells its own processes from others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tesseract.errors import InputError
from tesseract.local import cloud, state
from tesseract.local.state import Process, Stack, is_alive, load, project_root, save, start_time, state_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESSERACT_LOCAL_DIR", str(tmp_path))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return tmp_path


def stack(*processes: Process, api_url: str = "http://127.0.0.1:4566/api") -> Stack:
    return Stack("http://127.0.0.1:4566", "http://127.0.0.1:4567", processes, api_url)


def test_a_stack_comes_back_as_it_was_saved(folder: Path) -> None:
    saved = stack(Process("ministack", 1, "then"))
    save(saved)
    assert load() == saved
    assert [path.name for path in folder.iterdir()] == ["stack.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"endpoint": 1}'])
def test_a_broken_file_is_no_stack(folder: Path, content: bytes) -> None:
    (folder / "stack.json").write_bytes(content)
    assert load() is None
    assert cloud.status() is None


def test_a_pid_counts_only_with_its_start_time(folder: Path) -> None:
    own = Process("self", os.getpid(), start_time(os.getpid()))
    assert is_alive(own)
    assert not is_alive(Process("self", os.getpid(), "Thu Jan  1 00:00:00 1970"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    begun = start_time(ended.pid)
    ended.wait()
    assert not is_alive(Process("ended", ended.pid, begun or "before"))


def test_a_process_whose_start_is_unknown_is_never_alive(folder: Path) -> None:
    assert not is_alive(Process("ministack", 2**22 + 1, ""))


def test_status_needs_every_process_and_a_deployed_stage(folder: Path) -> None:
    own = Process("self", os.getpid(), start_time(os.getpid()))
    save(stack(own))
    assert cloud.status() == stack(own)
    save(stack(own, Process("exports", own.pid, "before")))
    assert cloud.status() is None
    save(stack(own, api_url=""))
    assert cloud.status() is None


def test_why_there_is_no_cloud_is_said(folder: Path) -> None:
    assert cloud.absence() == "no laptop cloud is running"
    own = Process("ministack", os.getpid(), start_time(os.getpid()))
    save(stack(own, api_url=""))
    assert "nothing is deployed to it" in cloud.absence()
    save(stack(own, Process("exports", own.pid, "before")))
    assert "not running any more: exports ended" in cloud.absence()


def test_down_where_nothing_runs_says_so(folder: Path) -> None:
    said: list[str] = []
    cloud.down(say=said.append)
    assert said == ["no laptop cloud was running"]


def test_down_ends_its_own_processes_and_spares_a_stranger_with_a_pid_of_theirs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cloud, "project_root", lambda: tmp_path / "project")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen(command, start_new_session=True)
    stranger = subprocess.Popen(command, start_new_session=True)
    try:
        save(stack(Process("ministack", ours.pid, start_time(ours.pid)), Process("exports", stranger.pid, "long ago")))
        (folder / "tmp").mkdir()
        (folder / "raw.changes").write_text("x")
        (folder / cloud.LOG).write_text("kept")
        cloud.down(say=lambda _line: None)
        assert ours.wait(5) != 0
        assert stranger.poll() is None
        assert [path.name for path in folder.iterdir()] == [cloud.LOG]
    finally:
        for child in (ours, stranger):
            child.kill()
            child.wait()


def test_up_refuses_when_another_endpoint_is_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:14566")
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL"):
        cloud.up(say=lambda _line: None)


def test_the_environment_has_what_the_aws_tools_read() -> None:
    environment = stack().environment()
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["AWS_ENDPOINT_URL_DYNAMODB"] == "http://127.0.0.1:4567"
    assert environment["TESSERACT_STAGE"] == "local"
    assert environment["TESSERACT_API_URL"] == "http://127.0.0.1:4566/api"
    assert "TESSERACT_API_URL" not in stack(api_url="").environment()


def test_the_state_lies_beside_serverless_yml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSERACT_LOCAL_DIR", raising=False)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("serverless.yml", "package.json"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert project_root() == tmp_path
    assert state_folder() == tmp_path / ".tesseract"


def test_a_taken_port_is_passed_over() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cloud._free_port(port) != port


def test_start_time_of_nothing_is_empty() -> None:
    assert state.start_time(2**22 + 1) == ""
