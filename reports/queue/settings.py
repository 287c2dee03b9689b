"""Where the queue is and what it takes at most: from [queue] of the configuration, and from options."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from site_db.errors import SiteDbError
from site_db.extras import how_to_install

GIB = 1024**3
_SCHEMES = {"amqp": 5672, "amqps": 5671}


class QueueProblem(SiteDbError):
    """The queue cannot be used as configured: an address, a password, a missing library, other limits at the broker."""


@dataclass(frozen=True)
class Address:
    """One broker of the cluster. `str()` is for people and has no password."""

    host: str
    port: int
    virtual_host: str
    user: str
    password: str = field(repr=False)
    is_tls: bool = False

    def __str__(self) -> str:
        """The URL without its password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "amqps" if self.is_tls else "amqp"
        return f"{scheme}://{quote(self.user)}@{host}:{self.port}/{quote(self.virtual_host, safe='')}"


@dataclass(frozen=True)
class QueueSettings:
    """A queue on one cluster. `length_limit` in reports; beyond either limit the broker refuses what is published."""

    addresses: tuple[Address, ...]
    name: str = "site-db.reports"
    length_limit: int = 1_000_000
    length_limit_bytes: int = 10 * GIB
    ca_file: str | None = None

    @property
    def dead_letters(self) -> str:
        """The queue for what no worker can store."""
        return f"{self.name}.dead"


def make_settings(table: dict[str, Any]) -> QueueSettings:
    """The settings of a checked table [queue]. Raises QueueProblem."""
    password = _read_password(table["password_file"]) if "password_file" in table else None
    addresses = tuple(parse_address(url, password) for url in table["addresses"])
    rest = {name: table[name] for name in ("name", "length_limit", "length_limit_bytes", "ca_file") if name in table}
    return QueueSettings(addresses, **rest)


def parse_address(url: str, password: str | None = None) -> Address:
    """The broker of `amqp[s]://USER[:PASSWORD]@HOST[:PORT][/VIRTUAL_HOST]`; `password` goes before the URL's.

    A virtual host of "/" is written %2F, and is meant where there is none. Raises QueueProblem.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _SCHEMES[parts.scheme]
        if not parts.hostname or parts.query or parts.fragment:
            raise ValueError
    except (ValueError, KeyError) as error:
        shown = url.rpartition("@")[2]
        raise QueueProblem(
            f"{shown!r} is no address of a broker.", "Give amqp://USER@HOST/VIRTUAL_HOST, or amqps:// for TLS."
        ) from error
    user = unquote(parts.username or "guest")
    given = password if password is not None else unquote(parts.password or ("guest" if user == "guest" else ""))
    virtual_host = unquote(parts.path.removeprefix("/")) or "/"
    return Address(parts.hostname, port, virtual_host, user, given, parts.scheme == "amqps")


def has_password(urls: Sequence[str]) -> bool:
    """Whether one of the URLs holds a password, for everybody to see who may list processes."""
    return any(_split(url).password for url in urls)


def require_library() -> None:
    """Raise QueueProblem unless the client library of RabbitMQ is installed."""
    if importlib.util.find_spec("pika") is None:
        raise QueueProblem("The queue needs a library that is not installed (pika).", how_to_install("rabbitmq"))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # told by parse_address
        return SplitResult("", "", "", "", "")


def _read_password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise QueueProblem(
            f"{path}: the password cannot be read: {error}.", "One line with the password, readable by this user."
        ) from error
