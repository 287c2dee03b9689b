"""Messages between the collector and a process of its own, over a socket: pickled, each after its length.

Both ends are this program, on this machine: nobody else writes what is unpickled.
"""

import asyncio
import pickle
import struct
from typing import Any, BinaryIO

# What reading raises: the other end is gone, or is of another release and sends what nobody here knows (pickle's errors).
UNREADABLE = (EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError)
_LENGTH = struct.Struct("<I")


def packed(message: object) -> bytes:
    """A message as it goes over the socket."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def read(stream: BinaryIO) -> Any:  # noqa: ANN401 - what was sent
    """The next message, waiting for it. Raises EOFError where the other end is gone."""
    [length] = _LENGTH.unpack(_whole(stream.read(_LENGTH.size), _LENGTH.size))
    return pickle.loads(_whole(stream.read(length), length))  # noqa: S301 - of our own process


async def received(stream: asyncio.StreamReader) -> Any:  # noqa: ANN401 - likewise
    """The same on an event loop."""
    [length] = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return pickle.loads(await stream.readexactly(length))  # noqa: S301 - likewise


def _whole(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise EOFError
    return data
