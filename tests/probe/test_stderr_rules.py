"""Causes out of messages, tried on the recorded words of real products."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from probe import reasons, stderr_rules
from probe.detectors import singularity
from probe.host import Host
from tests.probe.samples import recorded_texts


class Block(NamedTuple):
    """One recorded command: product, condition, command, what it printed, exit code."""

    product: str
    condition: str
    command: str
    output: str
    exit_code: int


def parse_blocks(text: str) -> list[Block]:
    """The blocks of a recording: ``--- [product] [condition] command``, output, ``rc=N``."""
    pattern = r"^--- \[(\S+)\] \[([^\]]*)\] (.*)\n((?:.*\n)*?)rc=(\d+)$"
    return [Block(*found[:4], int(found[4])) for found in re.findall(pattern, text, re.MULTILINE)]


def failures() -> list[Block]:
    folder = recorded_texts()
    texts = [] if folder is None else [path.read_text() for path in sorted(Path(folder).glob("*.txt"))]
    found = [block for text in texts for block in parse_blocks(text) if block.exit_code]
    return list({(block.product, block.condition, block.output): block for block in found}.values())


SUPERBLOCK, UNKNOWN_FORMAT = "sif_compression_unsupported", "sif_format_unsupported"
HOME, SETUID, CONFIG = "home_unusable", "setuid_bit_missing", "runtime_config_invalid"

# (product, condition, a part of the output): the reason that one would give by reading it. The first row that fits
# counts; None: it is no failure of Singularity's (the program inside failed, the shell said it, or nothing was said).
EXPECTED = [
    ("s2", "", "Unknown image format", UNKNOWN_FORMAT),
    ("s2", "", "Failed creating home directory", HOME),
    ("s2", "", "Unknown option: --fakeroot", "runtime_options_invalid"),
    ("s2", "nosuidmnt", "", SETUID),
    ("s2", "nnp", "", SETUID),
    ("s2", "suidown", "", SETUID),
    ("s2", "suidgrp", "", SETUID),
    ("s2", "inuserns", "", SETUID),
    ("s2", "confown", "", CONFIG),
    ("s2", "confmiss", "", CONFIG),
    ("s2", "nosysadmin", "", "mount_denied"),
    ("s2", "nochroot", "", "mount_denied"),
    ("s2", "childns", "", "mount_denied"),
    ("s2", "childns0", "", "mount_denied"),
    ("s2", "conf:allow container dir=no", "", "sandbox_disallowed_by_config"),
    ("s2", "conf:mount proc=no", "", CONFIG),
    ("s2", "", "NEWUSER namespace runtime: No space", "userns_limit_reached"),
    ("s3", "", "bad superblock", SUPERBLOCK),
    ("s3", "", "loop device", "loop_unavailable"),
    ("s3", "", "Failed to set effective UID to 0", SETUID),
    ("s3", "suidmiss", "", SETUID),
    ("s3", "suidgrp", "", SETUID),
    ("s3", "confown", "", CONFIG),
    ("s3", "confmiss", "", CONFIG),
    ("s3", "nosysadmin", "", "mount_denied"),
    ("s3", "nochroot", "", "mount_denied"),
    ("s3", "chroot", "", CONFIG),
    ("s3", "childns", "", "mount_denied"),
    ("s3", "childns0", "", "mount_denied"),
    ("s3", "conf:allow container dir=no", "", "sandbox_disallowed_by_config"),
    ("s3", "", "Failed to create user namespace: No space", "userns_limit_reached"),
    ("", "noexec", "setpriv: failed to execute", None),
    ("s3", "conf:mount proc=no", "cat: can't open", None),
    ("", "conf:user bind control=no", "ls: /opt", "bind_ignored_by_config"),
    ("s2", "none", "", None),  # `exec TMP cat mountinfo` of an image that is none: exit code 255 and not a word
]


def expected(block: Block) -> str | None:
    for product, condition, part, reason in EXPECTED:
        if block.product.startswith(product) and condition in ("", block.condition) and part in block.output:
            return reason
    raise LookupError(f"no row of EXPECTED fits {block}")


@pytest.mark.skipif(recorded_texts() is None, reason="no recorded texts: set PROBE_SHARED_DATA to their parent folder")
@pytest.mark.parametrize("block", failures(), ids=lambda block: f"{block.product}-{block.condition}")
def test_every_recorded_failure_gets_the_reason_that_a_reader_would_give(block: Block):
    found = stderr_rules.match(block.output, {})
    assert (found.reason if found else None) == expected(block), block.output


# Words of Apptainer 1.4.5, from the contracts of the installations (run as an ordinary user).
APPTAINER = [
    ("ERROR  : Installation issue: starter-suid doesn't have setuid bit set", SETUID),
    ("FATAL:   /etc/apptainer/apptainer.conf must be owned by root", CONFIG),
    (
        "ERROR  : Failed to create mount namespace: mount namespace requires privileges, check Apptainer installation",
        "mount_denied",
    ),
    ("FATAL:   User namespace required but not allowed by configuration.", "userns_disabled_by_config"),
    ("ERROR  : User namepace needed but not allowed by configuration", "userns_disabled_by_config"),
    ("FATAL:   apptainer image is not in an allowed configured path", "sif_disallowed_by_config"),
    ("FATAL:   configuration disallows users from running sandbox containers", "sandbox_disallowed_by_config"),
    (
        "FATAL:   container creation failed: not mounting user requested home: user bind control is disallowed",
        "bind_ignored_by_config",
    ),
    (
        "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded,"
        " check /proc/sys/user/max_user_namespaces",
        "userns_limit_reached",
    ),
    ("ERROR  : Failed to create user namespace: not allowed to create user namespace", "userns_denied"),
    (
        "FATAL:   container creation failed: mount image: failed to attach loop device: no loop devices available",
        "loop_unavailable",
    ),
    (
        "FATAL:   container creation failed: mount hook function failure: mount proc->/proc error: while mounting proc: can't"
        " mount proc filesystem to /proc: operation not permitted",
        "proc_masked",
    ),
    (
        "FATAL:   unknown userid 54321\nFATAL:   Couldn't determine user account information: user: unknown userid 54321",
        "user_unknown",
    ),
    (
        "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited with error:"
        " squashfuse_ll exited: fuse: failed to open /dev/fuse: Permission denied",
        "fuse_device_denied",
    ),
    (
        "ERROR  : Could not write info to setgroups: Permission denied\nERROR  : Error while waiting event for user namespace"
        " mappings: no event received",
        "userns_map_denied",
    ),
    (
        "FATAL:   could not open image /x/y: failed to retrieve path for /x/y: lstat /x/y: no such file or directory",
        "image_missing",
    ),
    (
        "FATAL:   While setting home directory: home argument has incorrect number of elements: 3",
        "folder_unusable",
    ),
    (
        "FATAL:   Requesting capability set 0x1ffffffffff while permitted capability set is 0x1fffeffffff",
        "capabilities_missing",
    ),
]


@pytest.mark.parametrize(
    ("stderr", "reason"), APPTAINER, ids=[reason + str(n) for n, (_, reason) in enumerate(APPTAINER)]
)
def test_apptainers_words_get_their_reason(stderr: str, reason: str):
    found = stderr_rules.match(stderr, {})
    assert (found and found.reason) == reason


def test_a_fact_that_was_found_by_trying_knows_better():
    message = "ERROR  : Failed to create user namespace: not allowed to create user namespace"
    found = stderr_rules.match(message, {"userns_reason": "userns_restricted_apparmor"})
    assert found == ("userns_restricted_apparmor", message)


def test_last_words_count_before_warnings():
    stderr = "WARNING: no cgroup for you\nINFO:    loop device\nFATAL:   no space left on device\n"
    assert stderr_rules.match(stderr, {}) == ("scratch_full", "FATAL:   no space left on device")


@pytest.mark.parametrize("grave", ["FATAL:   while x: nobody has heard of it", "ABORT  : Retval = 255", "ERROR  : what"])
def test_a_warning_of_every_day_is_no_cause_where_last_words_are_unknown(grave: str):
    warning = "WARNING: Skipping mount /etc/localtime [binds]: /etc/localtime doesn't exist in container"
    assert stderr_rules.match(warning + "\n" + grave + "\n", {}) is None
    assert stderr_rules.match(warning + "\nls: /x: what is it\n", {}) is not None


def test_a_warning_counts_where_nothing_graver_was_said():
    found = stderr_rules.match("WARNING: user bind control is disabled by system administrator\n", {})
    assert found is not None
    assert found.reason == "bind_ignored_by_config"


@pytest.mark.parametrize("text", ["", "\n\n", "hello world", "\x1b[31m\x1b[0m", "\0" * 100])
def test_what_no_row_knows_is_none(text: str):
    assert stderr_rules.match(text, {}) is None


def test_every_rule_leads_to_a_known_reason_and_says_where_it_was_learnt():
    for rule in stderr_rules.rules():
        assert rule["reason"] in reasons.rows()
        assert rule.get("source"), rule["pattern"].pattern
        assert set(rule) <= {"pattern", "reason", "ask", "source"}


def test_every_fact_that_a_rule_asks_for_is_one_that_the_detector_gives():
    setuid = {"installed": True, "usable": True, "reason": None, "path": "/x"}
    facts = singularity._facts(Host({}), {}, {"setuid": setuid})
    assert {rule["ask"] for rule in stderr_rules.rules() if "ask" in rule} <= set(facts)
