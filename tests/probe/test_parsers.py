"""No text that a machine may give makes a parser raise: what is not understood is unknown."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import mounts, stderr_rules
from probe.detectors import gpu_nvidia, gpu_signs, image_starts, machine, network, places, runtimes
from probe.settings import unknown_names

PARSERS: list[Callable[[str], object]] = [
    machine.parse_os_release,
    machine.parse_kernel_version,
    machine.parse_status,
    machine.parse_meminfo,
    mounts.parse_mountinfo,
    lambda text: mounts.covering_proc(mounts.parse_mountinfo(text)),
    lambda text: sorted(machine.parse_cpuinfo(text)["flags"]),
    runtimes.parse_version,
    places.parse_configuration,
    gpu_nvidia.kernel_driver_version,
    lambda text: gpu_signs.visible_devices({"CUDA_VISIBLE_DEVICES": text}),
    lambda text: image_starts.parse_answer(text, "nonce"),
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
    assert places.parse_configuration(text) == {"allow setuid": value}
