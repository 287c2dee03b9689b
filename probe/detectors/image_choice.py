"""Which of many images this run tries, so that the fleet tries all of them evenly.

Each node ranks all images by a hash of both (rendezvous hashing): no two nodes alike, and an image that comes or goes
moves no other. The hour says which stretch of its ranking a node tries now, so that it tries each of them in turn.
"""

from typing import List

SLOT_S = 3600


def slot_of(now: float) -> int:
    """The number of the hour."""
    return int(now) // SLOT_S


def choose(references: List[str], node: str, slot: int, count: int) -> List[str]:
    """The images of this node's turn; all of them where they are few."""
    if len(references) <= count:
        return list(references)
    return stretch(ranked(references, node), slot, count)


def ranked(references: List[str], node: str) -> List[str]:
    """The node's own order of the images."""
    import hashlib

    salt = hashlib.sha256(node.encode("utf-8", "replace")).digest()
    return sorted(
        references,
        key=lambda reference: hashlib.sha256(salt + reference.encode("utf-8", "replace")).digest(),
    )


def stretch(order: List[str], slot: int, count: int) -> List[str]:
    """``count`` images of a ranking, those after the last slot's."""
    first = slot * count % len(order)
    return (order + order)[first : first + count]
