"""Singularity and Apptainer installations: product, version, setuid starter and decisive configuration of each."""

import errno
import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from probe import advisories, stderr_rules
from probe.checks import Check, check, decisive_lines
from probe.engine import Findings
from probe.host import Host, Run, cut_short
from probe.process import EXHAUSTED, Outcome
from probe.settings import Settings

# On CVMFS the program, tens of megabytes, comes over the network first; a glidein waits for ever.
VERSION_LIMIT_S = 12.0
CAP_SYS_ADMIN = 1 << 21


def parse_version(text: str) -> Tuple[Optional[str], Optional[str]]:
    """Product and version from what ``--version`` prints; (None, None) where it is neither.

    Texts: "apptainer version 1.4.5", "singularity version 3.8.7-1.el7", "singularity-ce version 4.1.0-jammy",
    "SingularityPRO version 3.9-10.el8", for 2.x a bare "2.6.1-dist", and "apptainer version unknown" of a build by hand.
    """
    names = r"^\s*(?:(apptainer|singularity-ce|singularity-?pro|singularity)"
    match = re.search(names + r"(?: version)? )?(\d+\.\d+\S*)\s*$", text, re.I | re.M) or re.search(
        names + r" version )(\S+)", text, re.I | re.M
    )
    if not match:
        return None, None
    name = (match.group(1) or "singularity").lower()
    return {"singularitypro": "singularity-pro"}.get(name, name), match.group(2)


def setuid_facts(looked: Dict[str, Any], identity_map: Optional[bool], kept_down: Optional[bool]) -> Dict[str, Any]:
    """Whether the setuid starter is there and can work: the report's ``setuid``."""
    starter = looked["starter"]
    if starter is None:
        return {"installed": False, "usable": False, "reason": "setuid_not_installed", "path": None}
    values = (looked["configuration"] or {}).get("values", {})
    obstacles = [
        ("setuid_disabled_by_config", values.get("allow setuid") == "no"),  # a glidein goes on without the starter
        ("setuid_bit_missing", not starter["setuid"] or not starter.get("executable", True)),
        # Before the owner and the mount: in a user namespace root's files seem to be nobody's, outer containers are nosuid.
        ("setuid_in_namespace", identity_map is False or kept_down is True),
        ("setuid_bit_missing", starter["owner"] != 0),
        ("setuid_on_nosuid_mount", starter["nosuid"]),
    ]
    reason = next((reason for reason, stands in obstacles if stands), None)
    return {"installed": True, "usable": reason is None, "reason": reason, "path": starter["path"]}


def judge_version(outcome: Outcome) -> Tuple[str, Optional[str], Optional[str]]:
    """Status, reason and message of a ``--version`` run."""
    if outcome.state == "timeout":
        message = "--version did not answer within {:.0f} s".format(outcome.duration_s)
        if cut_short(outcome, VERSION_LIMIT_S):
            return "unknown", "deadline_reached", message
        return "timeout", "runtime_timeout", message
    if outcome.state == "not_started":
        if outcome.error in EXHAUSTED:
            return "fail", "resources_exhausted", os.strerror(outcome.error or 0)
        missing = outcome.error == errno.ENOENT
        return "fail", "runtime_not_found" if missing else "runtime_not_executable", os.strerror(outcome.error or 0)
    if outcome.signal:
        return "fail", "runtime_crashed", "--version ended by signal {}".format(outcome.signal)
    # A glidein asks for some text only, and then tries (singularity_lib.sh, singularity_test_bin).
    if parse_version(outcome.stdout)[0] is not None or (outcome.succeeded and outcome.stdout.strip()):
        return "ok", None, None
    known = stderr_rules.match(outcome.stderr, {})
    if known:
        return "fail", known.reason, known.line
    said = decisive_lines(outcome.stdout + "\n" + outcome.stderr, 1)
    return "fail", "runtime_wrong_output", "--version said {!r}".format(said[0] if said else "")


def detect(host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``runtimes`` in the search order; "chosen" is set later, by the run that worked."""
    looked = _unique(earlier["places"])
    home_hung = bool((earlier.get("scratch") or {}).get("home_hung"))
    answers = {} if home_hung else _versions(host, [row["looked"]["path"] for row in looked if row["looked"]])
    identity_map, kept_down = own_limits(host)
    runtimes, checks = [], []
    for row in looked:
        runtime = _runtime(row, answers.get(_path(row)), identity_map, kept_down)
        message = runtime.pop("message")
        if home_hung and runtime["status"] == "timeout":
            # Apptainer looks into HOME before anything else, --version included (1.4.5, run).
            runtime["reason"], message = "home_unusable", "HOME does not answer, so it cannot"
        runtimes.append(runtime)
        checks.append(_check(runtime, message))
        checks.extend(_advisories(runtime))
    yield {"data": runtimes, "checks": checks or [_nothing(earlier["places"])]}


def _path(row: Dict[str, Any]) -> str:
    return str(row["looked"]["path"] if row["looked"] else row["where"])


def _unique(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The places where something lies, or that could not be looked at, each real file once."""
    seen = set()
    found = []
    for row in rows:
        untold = row["hung"] or row["errno"]
        real = row["looked"]["real"] if row["looked"] else row["where"] if untold else None
        if real is not None and real not in seen:
            seen.add(real)
            found.append(row)
    return found


def _versions(host: Host, paths: List[str]) -> Dict[str, Outcome]:
    limit_s = host.limit(VERSION_LIMIT_S, 0.4)
    outcomes = host.run_each({"runtimes.version." + path: Run([path, "--version"]) for path in paths}, limit_s)
    return {path: outcomes["runtimes.version." + path] for path in paths}


def own_limits(host: Host) -> Tuple[Optional[bool], Optional[bool]]:
    """Whether our uid map is the identity, and whether setuid programs are kept from root's rights here.

    They are by no_new_privs, and where CAP_SYS_ADMIN is out of bounds. None where the kernel doesn't tell.
    """
    uid_map = (host.read_or_none("/proc/self/uid_map") or "").split()
    status = host.read_or_none("/proc/self/status") or ""
    identity_map = uid_map[:3] == ["0", "0", "4294967295"] if uid_map else None
    bounds = re.search(r"^CapBnd:\s*([0-9a-f]+)", status, re.M)
    if bounds and not int(bounds.group(1), 16) & CAP_SYS_ADMIN:
        return identity_map, True
    match = re.search(r"^NoNewPrivs:\s*(\d)", status, re.M)
    return identity_map, match.group(1) == "1" if match else None


def _runtime(
    row: Dict[str, Any], outcome: Optional[Outcome], identity_map: Optional[bool], kept_down: Optional[bool]
) -> Dict[str, Any]:
    found = row["looked"] or {"starter": None, "configuration": None}
    message: Optional[str] = "its file system does not answer"
    status = "timeout"
    reason = "cvmfs_hung" if "/cvmfs/" in _path(row) else "runtime_timeout"
    if row["cut_short"]:
        status, reason = "unknown", "deadline_reached"
    if row["errno"]:
        status, message = "fail", os.strerror(row["errno"])
        reason = "resources_exhausted" if row["errno"] in EXHAUSTED else "runtime_not_executable"
    product, version, text = None, None, None
    if outcome is not None:
        status, reason, message = judge_version(outcome)  # type: ignore[assignment]  # None where all is well
        product, version = parse_version(outcome.stdout)
        text = "".join(decisive_lines(outcome.stdout, 1)) or None
    return {
        "path": _path(row),
        "found_by": row["found_by"],
        "product": product,
        "version": version,
        "version_text": text,
        "status": status,
        "reason": reason,
        "message": message,
        "setuid": setuid_facts(found, identity_map, kept_down),
        "configuration": found["configuration"],
        "chosen": False,
    }


def _check(runtime: Dict[str, Any], message: Optional[str]) -> Check:
    return check(
        "runtimes." + runtime["path"],
        runtime["status"],
        runtime["reason"],
        message or runtime["version_text"],
        found_by=runtime["found_by"],
        setuid=runtime["setuid"]["reason"] or "usable",
        starter=runtime["setuid"]["path"],
    )


def _advisories(runtime: Dict[str, Any]) -> List[Check]:
    """A check that says so where the version has known security holes; none where it has not."""
    values = (runtime["configuration"] or {}).get("values", {})
    rows = advisories.matching(runtime["product"], runtime["version"], runtime["setuid"]["usable"], values)
    if not rows:
        return []
    message = "{} {}: {}".format(runtime["product"], runtime["version"], ", ".join(row["id"] for row in rows))
    told = ["{}: {} (fixed in {})".format(row["id"], row["title"], row["fixed"]) for row in rows]
    return [check("advisories." + runtime["path"], "fail", "version_vulnerable", message, advisories=told)]


def _nothing(rows: List[Dict[str, Any]]) -> Check:
    where = ["{}: {}".format(row["found_by"], row["where"]) for row in rows]
    return check("runtimes", "fail", "runtime_not_found", "no Singularity or Apptainer in any place", searched=where)


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """The report's ``runtimes`` where this detector never answered."""
    return []
