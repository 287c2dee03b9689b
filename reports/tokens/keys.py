"""Keys that verify tokens, and the folder that holds the factories' secret keys: FOLDER/FACTORY/KID.key.

FACTORY is the factory's name, percent-encoded. A key file is mode 0600 and is used with exactly its bytes: GlideinWMS
signs with its secret file as it is, a closing line feed included. What a token says never becomes part of a path.
"""

import base64
import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import jwt

from reports.safe_text import printable
from site_db.errors import SiteDbError

HMAC_ALGORITHM = "HS256"
# Who issues reader tokens: a name that no factory may have.
READERS = "urn:site-db:readers"
SECRET_BYTES = 32
_MOST_BYTES = 4096
# A token without a key id is tried with every key of its issuer; this bounds what that costs.
KEYS_PER_ISSUER = 8
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".key"


class KeyProblem(SiteDbError):
    """A key, or the folder of keys, that cannot be used."""


@dataclass(frozen=True)
class Key:
    """One key of an issuer. Its algorithm belongs to it: no token chooses another. The material is never shown."""

    issuer: str
    key_id: str | None
    algorithm: str
    material: jwt.PyJWK = field(repr=False)
    # Tells whether two key sets are the same, without holding a secret.
    digest: bytes = field(repr=False)


class KeySet:
    """The keys of some issuers; unchanging."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self._of_issuer: dict[str, tuple[Key, ...]] = {}
        for key in self.keys:
            self._of_issuer[key.issuer] = (*self._of_issuer.get(key.issuer, ()), key)

    def find(self, issuer: str, key_id: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed: of this issuer, algorithm and, where the token names one, key id."""
        return [
            key
            for key in self._of_issuer.get(issuer, ())
            if key.algorithm == algorithm and key_id in (None, key.key_id)
        ][:KEYS_PER_ISSUER]

    def digests(self) -> frozenset[tuple[str, str | None, bytes]]:
        """Equal for sets with the same keys."""
        return frozenset((key.issuer, key.key_id, key.digest) for key in self.keys)


class KeyFile(NamedTuple):
    """One key file of the folder; `made_at` in seconds since 1970, by the file's time."""

    factory: str
    key_id: str
    path: Path
    made_at: float


def secret_key(issuer: str, key_id: str | None, secret: bytes) -> Key:
    """An HS256 key of exactly these bytes. Raises ValueError for what is too short, or is a key of another kind."""
    if not SECRET_BYTES <= len(secret) <= _MOST_BYTES:
        raise ValueError(f"it has {len(secret)} bytes, {SECRET_BYTES} to {_MOST_BYTES} are needed")
    try:
        # Refuses PEM, DER, SSH and JWK: a public key that became a shared secret would let everyone sign.
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError("it is a public or private key or a certificate, not a shared secret") from error
    encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    material = jwt.PyJWK({"kty": "oct", "k": encoded}, algorithm=HMAC_ALGORITHM)
    return Key(issuer, key_id, HMAC_ALGORITHM, material, hashlib.sha256(secret).digest())


def list_key_files(folder: Path) -> list[KeyFile]:
    """The key files, the oldest of each factory first. A folder that does not exist holds none. Raises KeyProblem."""
    try:
        found = [
            KeyFile(unquote(factory.name), path.name.removesuffix(_SUFFIX), path, path.stat().st_mtime)
            for factory in folder.iterdir()
            if factory.is_dir()
            for path in factory.iterdir()
            if path.name.endswith(_SUFFIX) and _KEY_ID.fullmatch(path.name.removesuffix(_SUFFIX))
        ]
    except OSError as error:
        if not folder.exists():
            return []
        raise _unusable(folder, error.strerror or str(error)) from error
    return sorted(found, key=lambda file: (file.factory, file.made_at, file.key_id))


def read_key_file(file: KeyFile) -> Key:
    """The key in a file. Raises KeyProblem: unreadable, readable for others, or no secret key."""
    try:
        with file.path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            secret = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _unusable(file.path, error.strerror or str(error)) from error
    if mode & 0o077:
        raise KeyProblem(
            f"The key file {printable(str(file.path))} can be read by others (mode {mode & 0o777:04o}).",
            f"chmod 0600 {printable(str(file.path))}; if others may have read it, make a new key and retire this one.",
        )
    try:
        return secret_key(file.factory, file.key_id, secret)
    except ValueError as error:
        raise _unusable(file.path, str(error)) from error


def read_key_folder(folder: Path) -> tuple[KeySet, list[KeyProblem]]:
    """All usable keys of the folder, and what is wrong with the others. Raises KeyProblem if it cannot be listed."""
    keys, problems = [], []
    for file in list_key_files(folder):
        try:
            keys.append(read_key_file(file))
        except KeyProblem as problem:
            problems.append(problem)
    return KeySet(keys), problems


def add_key(folder: Path, factory: str, key_id: str, secret: bytes | None = None) -> KeyFile:
    """Make a key file with new random bytes, or with those given. Raises KeyProblem, also where it exists already."""
    if not _KEY_ID.fullmatch(key_id):
        raise KeyProblem(f"{key_id!r} is no key id.", "Use letters, digits, dots, dashes and underscores, at most 64.")
    path = _factory_folder(folder, factory) / (key_id + _SUFFIX)
    secret = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
    try:
        secret_key(factory, key_id, secret)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, secret)
    except FileExistsError as error:
        raise KeyProblem(f"The key {key_id} of {factory!r} exists already.", "Choose another key id.") from error
    except ValueError as error:
        raise KeyProblem(
            f"This cannot be a key: {error}.", "Give the secret file that the factory signs with."
        ) from error
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    return KeyFile(factory, key_id, path, path.stat().st_mtime)


def retire_key(folder: Path, factory: str, key_id: str) -> Path:
    """Delete a key file: what it has signed is refused from now on. Raises KeyProblem."""
    for file in list_key_files(folder):
        if (file.factory, file.key_id) == (factory, key_id):
            with contextlib.suppress(FileNotFoundError):
                file.path.unlink()
            return file.path
    raise KeyProblem(f"There is no key {key_id!r} of {factory!r}.", "`site-db token keys list` shows those that are.")


def write_secret(path: Path, secret: bytes) -> None:
    """A new file of mode 0600 with exactly these bytes, whole or not at all. Raises OSError, FileExistsError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.touch(0o600, exist_ok=False)
    try:
        with part.open("wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
        path.hardlink_to(part)
    finally:
        part.unlink()


def _factory_folder(folder: Path, factory: str) -> Path:
    name = quote(factory, safe="")
    if name in ("", ".", "..") or len(name) > 255:
        raise KeyProblem(f"{factory!r} cannot be a factory's name.", "Give the name that its glideins report.")
    return folder / name


def _unusable(path: Path, why: str) -> KeyProblem:
    return KeyProblem(
        f"{printable(str(path))} cannot be used: {why}.",
        "`site-db token keys add` makes keys; run it as the same user.",
    )
