"""A real collector on loopback, over a real store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from reports.collector import create_app
from reports.serving import server_config
from reports.settings import Settings
from site_db.store import Store

# The sample reports have a fixed date.
ANY_AGE = Settings(report_age_limit_days=100_000)
RunServer = Callable[[Starlette], AbstractContextManager[str]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    yield opened
    opened.close()


class _Announcing(uvicorn.Server):
    """Says when it takes requests; its signals are pytest's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """The URL of a server that runs until the end of the block, then stops gracefully."""
    config = server_config(app)
    config.port = 0
    server = _Announcing(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.ready.wait(20)
    [listening] = server.servers
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def run_server() -> RunServer:
    return running


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with running(create_app(store, ANY_AGE)) as url, httpx.Client(base_url=url, timeout=20) as opened:
        yield opened
