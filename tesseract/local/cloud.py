"""`tesseract local up | down | status`: MiniStack, the stand-in for exports, and a real deploy, each step said aloud."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from tesseract.errors import BackendError, InputError
from tesseract.local import after_deploy
from tesseract.local.state import Process, Stack, is_alive, load, project_root, save, start_time, state_folder
from tesseract.storage.dynamodb import translate
from tesseract.utils.aws_helpers import client

Say = Callable[[str], None]
PORT = 4566
ACCOUNT = "000000000000"
MIN_WINDOW = "1"
START_SECONDS, STOP_SECONDS, DEPLOY_SECONDS = 30, 15, 300
LOG = "local.log"


def status() -> Stack | None:
    """The running laptop cloud with its stage deployed, None where there is none."""
    stack = load()
    if stack is None or not stack.api_url or not all(map(is_alive, stack.processes)):
        return None
    return stack


def absence() -> str:
    """Why `status` finds none: a sentence without its end."""
    stack = load()
    if stack is None:
        return "no laptop cloud is running"
    ended = [process.name for process in stack.processes if not is_alive(process)]
    if not ended:
        return "the laptop cloud runs, but nothing is deployed to it: `tesseract local up` was cut short or failed"
    return f"the laptop cloud is not running any more: {' and '.join(ended)} ended without `tesseract local down`"


def up(*, say: Say) -> Stack:
    """Start and deploy what does not run yet; what runs is deployed anew. Raises where a step fails, with what its log says.

    The state is written after every step, so that `down` finds whatever a crash has left.
    """
    _refuse_foreign_endpoint()
    running = status()
    if running is None:
        _clear(say)
        running = _start(say)
    else:
        say(f"the laptop cloud runs at {running.endpoint}")
    _work_on(running)
    _deploy(running, say)
    try:
        running = _finish(running, say)
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "local up", running.endpoint) from error
    _work_on(running)
    save(running)
    return running


def down(*, say: Say) -> None:
    """End exactly what `up` started; nothing stays but the log."""
    stack, log = load(), state_folder() / LOG
    running = any(map(is_alive, stack.processes)) if stack else False
    if stack is not None:
        _clear(say)
        shutil.rmtree(project_root() / ".serverless", ignore_errors=True)
    what = "stopped" if running else "no laptop cloud was running"
    say(f"{what}; the log stays in {log}" if log.exists() else what)


def _refuse_foreign_endpoint() -> None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    stack = load()
    if endpoint and (stack is None or stack.endpoint != endpoint):
        raise InputError(
            f"AWS_ENDPOINT_URL is set to {endpoint}, and no laptop cloud of this folder runs there",
            hint="unset it to start one here, or deploy to that one with npx sls deploy",
        )


def _start(say: Say) -> Stack:
    folder = state_folder()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    port, exports_port = _free_port(PORT), _free_port(0)
    endpoint, exports = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{exports_port}"
    stack = Stack(endpoint=endpoint, exports_endpoint=exports, processes=())
    with _step(say, f"MiniStack starts at {endpoint}"):
        environment = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
        environment |= {"TMPDIR": str(folder / "tmp"), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        # its MQTT listener would bind every interface; a log line for every call costs time
        environment |= {"IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
        stack = _spawn(stack, "ministack", [sys.executable, "-m", "ministack"], environment)
        _wait(f"{endpoint}/_ministack/health", stack)
    with _step(say, f"the stand-in for DynamoDB's exports starts at {exports}"):
        command = [sys.executable, "-m", "tesseract.local.exports_server", str(exports_port), endpoint, str(folder), MIN_WINDOW]
        direct = {**stack.environment(), "AWS_ENDPOINT_URL_DYNAMODB": endpoint}
        stack = _spawn(stack, "exports", command, direct)
        _wait(exports, stack)
    return stack


def _spawn(stack: Stack, name: str, command: list[str], environment: dict[str, str]) -> Stack:
    with (state_folder() / LOG).open("ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**_clean_environment(), **environment},
            cwd=state_folder(),
            start_new_session=True,
        )
    process = Process(name, child.pid, start_time(child.pid))
    stack = msgspec.structs.replace(stack, processes=(*stack.processes, process))
    save(stack)
    return stack


def _clean_environment() -> dict[str, str]:
    """The environment without AWS settings of the user's: a laptop cloud must never reach a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _wait(url: str, stack: Stack) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and is_alive(stack.processes[-1]):
        try:
            with urlopen(url, timeout=2):  # noqa: S310 - our own address
                return
        except URLError as error:
            if getattr(error, "code", None):
                return  # it answers, if only with an error
        except OSError:
            pass
        time.sleep(0.1)
    raise BackendError(f"{stack.processes[-1].name} did not start: {_last_lines()}", hint=f"see {state_folder() / LOG}")


def _deploy(stack: Stack, say: Say) -> None:
    root = project_root()
    sls = root / "node_modules" / ".bin" / "sls"
    if not sls.exists():
        raise InputError(f"{sls} is missing", hint="run npm ci first")
    with _step(say, "sls deploy --stage local"), (state_folder() / LOG).open("ab") as log:
        environment = {
            **_clean_environment(),
            **stack.environment(),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(sls.parent), os.environ.get("PATH", "")]),
            "SLS_TELEMETRY_DISABLED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "TESSERACT_ACCOUNT": ACCOUNT,
            "TESSERACT_EXPORTS_ENDPOINT": stack.exports_endpoint,
        }
        command = [str(sls), "deploy", "--stage", "local", "--region", stack.region]
        try:
            code = subprocess.run(
                command,
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=DEPLOY_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code:
        raise BackendError(f"sls deploy failed: {_last_lines()}", hint=f"see {state_folder() / LOG}")


def _finish(stack: Stack, say: Say) -> Stack:
    """What the laptop cloud drops of the template, and the address of its HTTP API, which is not Amazon's."""
    with _step(say, "TTL, point-in-time recovery, lifecycle and limits set by API"):
        template = project_root() / ".serverless" / "cloudformation-template-update-stack.json"
        after_deploy.apply(template, "tesseract-local")
    apis = client("apigatewayv2").get_apis()["Items"]
    api = next(api["ApiId"] for api in apis if api["Name"].endswith("tesseract") or api["Name"].startswith("tesseract"))
    bucket = f"tesseract-local-{ACCOUNT}-archive"
    return msgspec.structs.replace(stack, api_url=f"{stack.endpoint}/_aws/execute-api/{api}", bucket=bucket)


def _work_on(stack: Stack) -> None:
    """Our own clients, and what this process does next, work on the stack from here on."""
    os.environ.update(stack.environment())
    client.cache_clear()


def _clear(say: Say) -> None:
    """End what an earlier `up` started, dead or alive, and remove what it left."""
    stack = load()
    for process in reversed(stack.processes if stack else ()):
        if is_alive(process):
            with _step(say, f"{process.name} stops"):
                _stop(process)
    folder = state_folder()
    for path in (*folder.glob("*.changes"), folder / "stack.json", folder / "stack.partial"):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "tmp", ignore_errors=True)


def _stop(process: Process) -> None:
    """SIGTERM, then SIGKILL to its group, which holds the workers of the functions."""
    with suppress(ProcessLookupError):  # it may have ended by itself just now
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nothing of it was left


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BackendError("no free port on 127.0.0.1")


def _last_lines(count: int = 8) -> str:
    try:
        lines = (state_folder() / LOG).read_text(errors="replace").splitlines()
    except OSError:
        return "there is no log"
    return " / ".join(line.strip() for line in lines[-count:] if line.strip())


@contextmanager
def _step(say: Say, text: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{text} ({time.monotonic() - started:.1f} s)")
