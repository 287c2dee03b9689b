"""What slots are given, in the words of the field, against devices; and what a glidein claims."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.detectors import gpu_claim, gpu_signs, gpu_visible
from tests.probe.samples import settings

A, B = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8932aaaa-0000-4106-c12f-20bd9faed9f6"
MIG = "MIG-a1b2c3d4-5e6f-5000-8000-000000000001"
MIG_2 = "MIG-ffffffff-5e6f-5000-8000-000000000002"
DEVICES = [
    {"uuid": A, "instances": []},
    {
        "uuid": B,
        "instances": [
            {"uuid": MIG, "gpu_instance": 1, "compute_instance": 0},
            {"uuid": MIG_2, "gpu_instance": 2, "compute_instance": 0},
        ],
    },
    {"uuid": None, "instances": []},
]


@pytest.mark.parametrize(
    ("text", "chosen", "problem"),
    [
        ("0", [0], None),
        ("1,0", [1, 0], None),
        (" 2 , 0 ", [2, 0], None),
        ("1gpu", [1], None),  # strtoul
        ("", [], "the empty list is no device here"),
        ("-1", [], "-1 is no device here"),
        ("na", [], "na is no device here"),
        ("none", [], "none is no device here"),
        ("void", [], "void is no device here"),
        ("NoDevFiles", [], "NoDevFiles is no device here"),
        ("10000", [], "10000 is no device here"),
        ("99999999999999999999", [], "99999999999999999999 is no device here"),
        ("0,2,-1,1", [0, 2], "-1 is no device here"),  # CUDA's own example: what follows the invalid one is lost
        ("0,7,1", [0], "7 is no device here"),
        ("0,,1", [0], "the empty list is no device here"),
        ("0,0", [], "0 is named twice"),
        ("1,0,1", [], "1 is named twice"),
        (A, [0], None),
        (A.lower(), [], f"{A.lower()} is no device here"),  # the prefix is written in capitals
        ("GPU-8932f937", [0], None),
        ("GPU-8932", [], "GPU-8932 names several devices"),
        (f"{A},{B}", [0, 1], None),
        (f"{A},{A}", [], f"{A} is named twice"),
        (f"{A},1", [0], "1 is no device here"),  # kinds are not mixed
        ("GPU-", [], "GPU- is no device here"),
        ("GPU-00000000", [], "GPU-00000000 is no device here"),
        (MIG, [1], None),
        ("MIG-a1b2", [1], None),
        (f"MIG-{B}/2/0", [1], None),  # before driver 470
        (f"MIG-{B}/9/0", [], f"MIG-{B}/9/0 is no device here"),
        (f"{MIG},{MIG_2}", [1], "a program sees one MIG instance only"),
    ],
)
def test_a_list_is_read_as_cuda_reads_it(text, chosen, problem):
    found = gpu_visible.choose(text, DEVICES)
    assert [DEVICES.index(row) for row in found.devices] == chosen
    assert found.problem == problem


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_or_chooses_a_device_twice(text: str):
    found = gpu_visible.choose(text, DEVICES)
    assert len({id(row) for row in found.devices}) == len(found.devices) <= len(DEVICES)


@pytest.mark.parametrize(
    ("environment", "counted", "number", "has_problem"),
    [
        ({}, None, 3, False),
        ({}, 2, 2, False),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, None, 2, False),
        ({"CUDA_VISIBLE_DEVICES": "0,9"}, 1, 1, True),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, None, 0, True),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, None, 3, False),
        ({"NVIDIA_VISIBLE_DEVICES": "0"}, None, 3, False),  # the toolkit has chosen already
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, None, 0, True),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, None, 0, True),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, None, 0, True),
        ({"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "0"}, None, 1, False),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, 3, 3, True),  # what CUDA gave stands above what is written
        ({"GPU_DEVICE_ORDINAL": "10000"}, None, 3, False),  # OpenCL's, and AMD's
    ],
)
def test_what_a_cuda_program_sees(environment, counted, number, has_problem):
    found = gpu_visible.of_nvidia(environment, DEVICES, counted)
    assert (found.number, found.problem is not None) == (number, has_problem)


def test_nothing_is_told_of_devices_that_nobody_listed():
    assert gpu_visible.of_nvidia({"CUDA_VISIBLE_DEVICES": "0"}, [], None).number is None


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, 3),
        ({"ROCR_VISIBLE_DEVICES": "0,2"}, 2),
        ({"ROCR_VISIBLE_DEVICES": "0,2", "HIP_VISIBLE_DEVICES": "1"}, 1),
        ({"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}, 0),  # narrowed before, counted anew
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "-1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "10000", "GPU_DEVICE_ORDINAL": "10000"}, 0),
        ({"GPU_DEVICE_ORDINAL": "1,2"}, 2),
        ({"ROCR_VISIBLE_DEVICES": A}, 1),
    ],
)
def test_what_a_rocm_program_sees(environment, number):
    assert gpu_visible.of_amd(environment, DEVICES).number == number


@pytest.mark.parametrize(
    ("environment", "visible", "variable"),
    [
        ({}, None, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ["0", "1"], "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": ""}, [], "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": " GPU-1 , ", "NVIDIA_VISIBLE_DEVICES": "all"}, ["GPU-1"], "CUDA_VISIBLE_DEVICES"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ["void"], "NVIDIA_VISIBLE_DEVICES"),
        ({"HIP_VISIBLE_DEVICES": "0"}, ["0"], "HIP_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": ",".join(["x" * 1000] * 1000)}, ["x" * 256] * 64, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_the_devices_that_the_slot_was_given(environment, visible, variable):
    assert gpu_signs.visible_devices(environment) == visible
    assert gpu_signs.visible_variable(environment) == variable


@pytest.mark.parametrize(
    ("slots", "claim"),
    [
        ("GPUs,1,type=main", ("GPUs,1,type=main", 1)),
        ("GPUs,type=main", ("GPUs,type=main", None)),
        ("ioslot,3;gpus, 4 ,type=main", ("gpus, 4 ,type=main", 4)),
        ("GPUs,0", ("GPUs,0", 0)),
        ("GPUs", ("GPUs", None)),
        ("GPUs,many", ("GPUs,many", None)),
        ("GPUs,99999999999", ("GPUs,99999999999", None)),
        ("ioslot,3", None),
        ("", None),
    ],
)
def test_the_claim_of_a_glidein(slots, claim):
    assert gpu_claim.claim_of(settings({"GLIDEIN_Resource_Slots": slots})) == claim


@pytest.mark.parametrize(
    ("claim", "present", "outcome"),
    [
        (None, 0, None),
        (None, None, None),
        (None, 2, ("ok", None)),
        (1, 1, ("ok", None)),
        (0, 0, ("ok", None)),
        (0, 2, ("ok", None)),
        (2, 1, ("fail", "gpu_claim_wrong")),
        (1, 2, ("fail", "gpu_claim_wrong")),
        (1, 0, ("fail", "gpu_claimed_but_none")),
        (1, None, ("unknown", "prerequisite_failed")),
    ],
)
def test_a_claim_is_held_against_what_a_job_sees(claim, present, outcome):
    row = gpu_claim.judge_claim(None if claim is None else gpu_claim.Claim(f"GPUs,{claim}", claim), present)
    assert (row and (row["status"], row["reason"])) == outcome


def test_a_claim_without_a_number_wants_one_gpu_at_least():
    claim = gpu_claim.Claim("GPUs,type=main", None)
    rows = [gpu_claim.judge_claim(claim, present) for present in (0, 1, 8)]
    assert [row and row["status"] for row in rows] == ["fail", "ok", "ok"]
