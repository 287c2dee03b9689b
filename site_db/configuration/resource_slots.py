"""GLIDEIN_Resource_Slots: what it claims of GPUs, and the same value with another claim. Pure.

Resources stand apart by semicolons, each as NAME[,NUMBER[,MEMORY[,TYPE[,DISK]]]], where any but the name may be given as
`key=value` instead; GPUs in any spelling of cases are special: without a number HTCondor counts them itself (GlideinWMS,
creation/web_base/condor_startup.sh).
"""

import re
from typing import NamedTuple

_NAME = "gpus"
_NUMBER = re.compile(r"[0-9]{1,5}")


class GpuClaim(NamedTuple):
    """What a value says of GPUs: its words, and how many; `number` None: HTCondor is to count them."""

    text: str
    number: int | None


def gpu_claim(value: str | None) -> GpuClaim | None:
    """The claim in a value; None where it says nothing of GPUs. Of two claims the first counts."""
    for resource in (value or "").split(";"):
        if _is_gpus(resource):
            place = _number_place(resource.split(","))
            number = None if place is None else resource.split(",")[place].rpartition("=")[2].strip()
            return GpuClaim(resource.strip(), int(number) if number and _NUMBER.fullmatch(number) else None)
    return None


def with_gpus(value: str, wanted: str) -> str:
    """The value with the claim that another makes (`GPUs,2,type=main`).

    Only the number changes where GPUs are claimed already; where HTCondor counts them itself, nothing does. Other
    resources stay as they are.
    """
    claim, new = gpu_claim(value), gpu_claim(wanted)
    if new is None or (claim is not None and claim.number in (None, new.number)):
        return value
    if claim is None:
        kept = value.strip().rstrip(";").rstrip()
        return f"{kept};{new.text}" if kept else new.text
    resources = value.split(";")
    first = next(number for number, resource in enumerate(resources) if _is_gpus(resource))
    words = resources[first].split(",")
    place = _number_place(words) or 0
    words[place] = _NUMBER.sub(str(new.number), words[place])
    resources[first] = ",".join(words)
    return ";".join(resources)


def _is_gpus(resource: str) -> bool:
    return resource.partition(",")[0].strip().lower() == _NAME


def _number_place(words: list[str]) -> int | None:
    """Which word is the number: the one called so, else the second of those that have no name."""
    plain = [place for place, word in enumerate(words) if "=" not in word]
    named = [place for place, word in enumerate(words) if word.partition("=")[0].strip() == "number" and "=" in word]
    return named[0] if named else plain[1] if len(plain) > 1 else None
