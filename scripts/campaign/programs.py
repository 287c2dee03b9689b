"""The programs under test, each of which can be killed at any moment and started again: collectors, workers, PostgreSQL."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.rabbitmq import free_port

START_LIMIT_S = 90
_MAIN = "from reports.cli import main; main()"


def until(is_so: Callable[[], bool], what: str, limit_s: float = START_LIMIT_S) -> None:
    """Wait for something; RuntimeError when it does not come."""
    end = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.05)


class SiteDb:
    """`site-db serve` or `site-db worker` over a database; its log is a file."""

    def __init__(self, name: str, database: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-c", _MAIN, *arguments]
        self._environment = {**os.environ, "SITE_DB_DATABASE": database, "PYTHONUNBUFFERED": "1"}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def keep_running(self) -> None:
        """What a service manager does: start it again when it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_child(self) -> bool:
        """SIGKILL the process that stores for a collector; False where there is none."""
        children = _children(self._process)
        for child in children:
            child.kill()
        return bool(children)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return int(self._process.wait(60))


class Collector(SiteDb):
    """A collector on a port of its own, which it keeps."""

    def __init__(self, number: int, database: str, options: Sequence[str], folder: Path) -> None:
        port = free_port()
        self.address = ("127.0.0.1", port)
        name = f"collector-{number}"
        super().__init__(name, database, ["serve", "--port", str(port), *options], folder / f"{name}.log")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.address[1]}/readyz", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False


class PostgreSQL:
    """A server of our own on a socket, with its flushes on."""

    name = "database"

    def __init__(self) -> None:
        [*_, self._programs] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        # Its user may not enter root's folders, and a socket's path has 107 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user, self._user)
        init = [str(self._programs / "initdb"), "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust"]
        self._run([*init, "-E", "UTF8", "--locale=C"]).wait()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@/postgres?host={self._folder}"

    def start(self) -> None:
        settings = (f"unix_socket_directories={self._folder}", "listen_addresses=", "max_connections=60")
        options = [word for setting in settings for word in ("-c", setting)]
        self._process = self._run([str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options])

    def keep_running(self) -> None:
        """Start it again where it has ended: it refuses to start while children of a killed one still end."""
        if self._process is not None and self._process.poll() is not None:
            time.sleep(0.1)
            self.start()

    def is_ready(self) -> bool:
        asked = self._run([str(self._programs / "pg_isready"), "-q", "-h", str(self._folder)])
        return bool(asked.wait() == 0)

    def kill(self) -> None:
        """SIGKILL the server and every process that it has for a connection."""
        if self._process is not None:
            children = _children(self._process)
            self._process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait()

    def remove(self) -> None:
        self.kill()
        self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, user=self._user, group=self._user, cwd=self._folder, **quiet)


def _children(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True) if process else []
    except psutil.NoSuchProcess:
        return []
