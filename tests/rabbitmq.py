"""RabbitMQ nodes of our own on loopback: ports, folder, cookie and epmd are theirs, and all is gone at the end.

Debian's service is not touched. A node can be killed and started again; it finds its cluster by the list of its names.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

# The package's own script; the one on PATH insists on the service's user and folders.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# One scheduler that sleeps when idle: three nodes share two processors with what is tested.
_ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +A 4"
_START_LIMIT_S = 120


def is_installed() -> bool:
    """Whether there is a RabbitMQ to start."""
    return _SERVER.exists() and shutil.which("epmd") is not None


def free_port() -> int:
    """A port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """One broker. `start` returns at once; `wait` when it takes connections."""

    def __init__(self, folder: Path, name: str, names: Sequence[str], epmd_port: int) -> None:
        self.port = free_port()
        self._name = name
        self._folder = folder / name
        self._folder.mkdir()
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "cluster_formation.peer_discovery_backend = classic_config",
            "cluster_formation.randomized_startup_delay_range.min = 0",
            "cluster_formation.randomized_startup_delay_range.max = 0",
            *(
                f"cluster_formation.classic_config.nodes.{number} = {each}@localhost"
                for number, each in enumerate(names, 1)
            ),
            "disk_free_limit.absolute = 50MB",
            "log.file.level = warning",
        ]
        (self._folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self._folder / "plugins").write_text("[].\n")
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{name}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, with the user that every new broker has for its own machine."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def start(self) -> None:
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [_SERVER], env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + _START_LIMIT_S
        while not self._listens():
            if time.monotonic() > end or self._process is None or self._process.poll() is not None:
                output = (self._folder / "output").read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"RabbitMQ {self._name} did not start: {output}")
            time.sleep(0.1)

    def _listens(self) -> bool:
        """It does when all of it has started."""
        with closing(socket.socket()) as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # That was the shell; the broker below it dies in its own time.
            while self._listens():
                time.sleep(0.02)


@contextmanager
def cluster(size: int) -> Iterator[list[Node]]:
    """`size` nodes that know each other, started."""
    folder = Path(tempfile.mkdtemp(prefix="mq-"))
    cookie = folder / ".erlang.cookie"
    cookie.write_text("A" * 20)
    cookie.chmod(0o400)
    epmd_port = free_port()
    names = [f"n{number}" for number in range(1, size + 1)]
    nodes = [Node(folder, name, names, epmd_port) for name in names]
    epmd = subprocess.Popen(["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"], stdin=subprocess.DEVNULL)
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait()
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        epmd.kill()
        epmd.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with cluster(int(sys.argv[1])) as started:
        sys.stdout.write(" ".join(node.url for node in started) + "\n")
        sys.stdout.flush()
        signal.pause()
