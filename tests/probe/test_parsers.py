"""No text that a machine may give makes a parser raise: what is not understood is unknown."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import stderr_rules
from probe.detectors import gpus, images, machine, network, runtimes
from probe.settings import unknown_names

PARSERS: list[Callable[[str], object]] = [
    machine.parse_os_release,
    machine.parse_kernel_version,
    machine.parse_status,
    machine.parse_meminfo,
    machine.parse_mountinfo,
    lambda text: machine.proc_mounts(machine.parse_mountinfo(text)),
    lambda text: sorted(machine.parse_cpuinfo(text)["flags"]),
    runtimes.parse_version,
    runtimes.parse_configuration,
    gpus.kernel_driver_version,
    lambda text: gpus.visible_devices({"CUDA_VISIBLE_DEVICES": text}),
    lambda text: images.parse_answer(text, "nonce"),
    network.without_password,
    lambda text: stderr_rules.match(text, {}),
    lambda text: unknown_names({text: ""}),
]

# Pieces that the parsers look for, so that the search comes near their edges.
PIECES = st.sampled_from(
    [
        "flags\t: ",
        "Features : ",
        "model name: x",
        "ID=",
        '"',
        "'",
        "MemTotal: ",
        " kB",
        " - ",
        "36 35 98:0 / /proc rw",
        "\\040",
        "\\777",
        "hidepid=",
        "allow setuid",
        " = ",
        "version ",
        "apptainer version ",
        "2.6.1",
        "NVRM version: ",
        "550.54.15 ",
        "nonce ",
        "nonce path ",
        "nonce os ",
        "CapEff:",
        "//",
        "@",
        "FATAL: ",
        "\x1b[",
        "\r\n",
        "\n",
        "\n\n",
        " ",
        "\0",
        "\u2028",
        ",",
    ]
)
TEXTS = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20).map("".join)


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=40)  # there are many parsers
@given(text=TEXTS)
def test_a_parser_takes_any_text_and_gives_what_json_can_say(parser: Callable[[str], object], text: str):
    json.dumps(parser(text))


@given(st.text(st.characters(exclude_characters="\n =#", exclude_categories=["Cc", "Cs", "Z"]), min_size=1))
def test_a_configurations_decisive_value_is_read_back(value: str):
    text = f"# comment\nallow setuid = {value}\nother = 1\n"
    assert runtimes.parse_configuration(text) == {"allow setuid": value}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_a_mount_point_is_read_back_as_the_kernel_escapes_it(point: str):
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in "/" + point)
    mounts = machine.parse_mountinfo(f"36 35 98:0 / {escaped} rw shared:1 - ext4 /dev/root rw\n")
    assert [mount["point"] for mount in mounts] == ["/" + point]
