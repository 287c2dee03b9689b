"""Bounded decompression: gzip and zstd as a stream of small pieces, so that a bomb never unfolds in memory."""

import zlib
from collections.abc import Callable, Iterator
from typing import IO

import zstandard

PIECE_BYTES = 64 * 1024
# A zstd block of four bytes may unfold to 128 KiB, and zstandard has no bound on what one call returns: feed little.
_ZSTD_FEED_BYTES = 256
# RFC 8878 recommends that decoders take windows of up to 8 MiB.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024


class Damaged(Exception):
    """A compressed stream that is broken or ends early; the text says which, and at which byte of it."""


def encoding_of(head: bytes) -> str:
    """The content encoding that the first four bytes of a file tell: gzip, zstd or identity."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if head == b"\x28\xb5\x2f\xfd" else "identity"


def pieces(source: IO[bytes], encoding: str, head: bytes = b"") -> Iterator[bytes]:
    """The decoded contents of `source`, after the bytes `head` that were read already, in bounded pieces.

    Raises Damaged for a broken stream (what came before it was given out), KeyError for an unknown encoding,
    OSError from reading.
    """
    return DECODERS[encoding](_encoded(source, head))


def small(body: bytes, encoding: str) -> bytes | None:
    """What a body unfolds to if that is at most a piece and plainly so, without more work than that; else None."""
    try:
        found = _SMALL[encoding](body)
    except (zlib.error, zstandard.ZstdError):
        return None
    return found if found is not None and len(found) <= PIECE_BYTES else None


def _small_gzip(body: bytes) -> bytes | None:
    decoder = zlib.decompressobj(wbits=31)
    found = decoder.decompress(body, PIECE_BYTES)
    return found if decoder.eof and not decoder.unused_data else None


def _small_zstd(body: bytes) -> bytes | None:
    # The size in a frame's head bounds what is unfolded: more is an error.
    size = zstandard.frame_content_size(body)
    return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False) if 0 < size <= PIECE_BYTES else None


_SMALL: dict[str, Callable[[bytes], bytes | None]] = {
    "identity": lambda body: body,
    "gzip": _small_gzip,
    "zstd": _small_zstd,
}


def _encoded(source: IO[bytes], head: bytes) -> Iterator[bytes]:
    if head:
        yield head
    while piece := source.read(PIECE_BYTES):
        yield piece


def _gzip(encoded: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    at = 0
    for piece in encoded:
        rest = piece
        while rest:
            if decoder.eof:  # a further member, as `cat a.gz b.gz` makes it
                decoder = zlib.decompressobj(wbits=31)
            try:
                yield decoder.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise Damaged(f"broken gzip data after byte {at} of the compressed stream: {error}") from error
            rest = decoder.unused_data or decoder.unconsumed_tail
        at += len(piece)
    while not decoder.eof and (tail := decoder.decompress(b"", PIECE_BYTES)):
        yield tail
    if at and not decoder.eof:
        raise Damaged(f"the gzip data ends early, after byte {at} of the compressed stream")


def _zstd(encoded: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    decoder = decompressor.decompressobj()
    at = 0
    for piece in encoded:
        for start in range(0, len(piece), _ZSTD_FEED_BYTES):
            rest = piece[start : start + _ZSTD_FEED_BYTES]
            while rest:
                if decoder.eof:  # a further frame
                    decoder = decompressor.decompressobj()
                try:
                    yield decoder.decompress(rest)
                except zstandard.ZstdError as error:
                    raise Damaged(f"broken zstd data after byte {at} of the compressed stream: {error}") from error
                rest = decoder.unused_data if decoder.eof else b""
        at += len(piece)
    if at and not decoder.eof:
        raise Damaged(f"the zstd data ends early, after byte {at} of the compressed stream")


DECODERS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "identity": lambda encoded: encoded,
    "gzip": _gzip,
    "zstd": _zstd,
}
