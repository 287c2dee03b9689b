"""What the glidein claims: the GPUs of GLIDEIN_Resource_Slots, against those that a job sees."""

from typing import Any, Dict, NamedTuple, Optional

from probe.checks import Check, check
from probe.settings import Settings


class Claim(NamedTuple):
    """What the glidein's configuration says of GPUs; ``number`` is None where HTCondor is to find them itself."""

    text: str
    number: Optional[int]


def claim_of(settings: Settings) -> Optional[Claim]:
    """What GLIDEIN_Resource_Slots says of GPUs; None where it says nothing of them.

    It is NAME[,NUMBER][,MEMORY][,type=TYPE] for each resource, separated by semicolons; without a number HTCondor looks
    for GPUs itself (GlideinWMS, condor_startup.sh).
    """
    for slot in (settings.configured("GLIDEIN_Resource_Slots") or "").split(";"):
        words = [word.strip() for word in slot.split(",")]
        if words[0].lower() == "gpus":
            count = words[1] if len(words) > 1 else ""
            return Claim(slot.strip()[:256], int(count) if count.isdecimal() and len(count) < 6 else None)
    return None


def judge_claim(claim: Optional[Claim], present: Optional[int]) -> Optional[Check]:
    """The claim against how many GPUs a job sees; None where nobody claims any and there is none."""
    if claim is None and not present:
        return None
    facts: Dict[str, Any] = {"claim": claim.text if claim else None, "present": present}
    if present is None:
        message = "how many GPUs a job sees is not known"
        return check("gpus.claim", "unknown", "prerequisite_failed", message, **facts)
    if claim is None:
        message = "{} here, and GLIDEIN_Resource_Slots claims none".format(_gpus(present))
        return check("gpus.claim", "ok", None, message, **facts)
    if claim.number == 0 or claim.number == present or (claim.number is None and present):
        return check("gpus.claim", "ok", None, None, **facts)
    reason = "gpu_claim_wrong" if present else "gpu_claimed_but_none"
    message = "GLIDEIN_Resource_Slots has {}; a job sees {}".format(claim.text, _gpus(present))
    return check("gpus.claim", "fail", reason, message, **facts)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else "{} GPUs".format(count or "no")
