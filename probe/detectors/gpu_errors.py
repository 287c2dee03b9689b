"""What NVML's and CUDA's error codes mean for a job, from data/gpu_errors.json, and why a library could not be loaded."""

import json
from typing import Any, Dict, List, NamedTuple, Optional

from probe import packed
from probe.workers import Result

OTHERWISE = "gpu_driver_error"


class Judgement(NamedTuple):
    """Status, reason and message; reason and message are None where the status is ok."""

    status: str
    reason: Optional[str]
    message: Optional[str]

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return self.status == "ok"


OK = Judgement("ok", None, None)


def table() -> Dict[str, Dict[str, List[str]]]:
    """{"nvml" or "cuda": {code: [name, reason]}}."""
    content: Dict[str, Any] = json.loads((packed.read("gpu_errors.json") or b"{}").decode())
    return content


def judge_code(interface: str, call: str, code: int) -> Judgement:
    """An error code of ``interface`` (nvml or cuda), which ``call`` gave; 0 is ok."""
    if code == 0:
        return OK
    name, reason = table().get(interface, {}).get(str(code), ["unknown code", OTHERWISE])
    message = "{} gave error {} ({})".format(call, code, name)
    return Judgement("timeout" if reason == "gpu_timeout" else "fail", reason, message)


def judge_loading(text: str) -> Judgement:
    """The loader's words on a library that it would not load (glibc's dl-load.c and dl-version.c)."""
    if "GLIBC_" in text and "not found" in text:
        return Judgement("fail", "gpu_library_glibc_too_new", text)
    if "cannot open shared object file" in text:
        return Judgement("fail", "gpu_driver_missing", text)
    return Judgement("fail", OTHERWISE, text)


def judge_answer(interface: str, library: str, result: Result, limit_s: float) -> Judgement:
    """What became of asking a library in a child: {"load": text} or {"error": code, "call": name, ...}."""
    if result.state == "timeout":
        still = ", and hangs since an earlier run" if result.left_running and not result.duration_s else ""
        return Judgement("timeout", "gpu_timeout", "{} gave no answer in {:.0f} s{}".format(library, limit_s, still))
    if result.state != "done":
        return Judgement("fail", "gpu_driver_crashed", "{}: {}".format(library, result.detail))
    if "load" in result.value:
        return judge_loading(result.value["load"])
    return judge_code(interface, result.value["call"], result.value["error"] or 0)
