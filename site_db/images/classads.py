"""An image's needs as a ClassAd expression over machine ads, for a job's requirements or a frontend's match. Pure.

Attributes: those of the probe (docs/attributes.md), HTCondor's own where the probe has sent none, and OSPool's kernel version.
A machine that does not say something is handled on purpose: every clause is true or false, never undefined. By default what
is not said is a no, because a job that goes where nobody knows may fail there; the other way is to let it pass.
"""

from typing import NamedTuple

from site_db.cuda import Version, compatible_driver
from site_db.images.naming import is_repository_name
from site_db.images.needs import Need
from site_db.images.nvidia import Condition, Requirement, needed_cuda, parse_requirement

# As HTCondor names architectures (its Arch attribute).
_ARCHES = {"x86_64": "X86_64", "i686": "X86_64", "aarch64": "aarch64", "ppc64le": "ppc64le"}
_KIND = {
    "sandbox": "(PROBE_SINGULARITY_USABLE ?: HasSandboxImage)",
    "sif": "(PROBE_SIF ?: HasSIF)",
    "oci": "(HasDockerURL ?: HasContainer)",
}
_OPERATORS = {"=": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Clause(NamedTuple):
    """One condition, and what it is for."""

    expression: str
    about: str


def clauses(need: Need, *, gpu: bool, unknown_passes: bool) -> list[Clause]:
    """The conditions, all to hold. Each is true or false on every machine ad."""
    found = []
    if need.kind != "sandbox":  # whose clause is the same
        found.append(Clause("(PROBE_SINGULARITY_USABLE ?: HasSingularity)", "containers start"))
    if need.kind:
        found.append(Clause(_KIND[need.kind], f"images of kind {need.kind} start"))
    if need.repository and is_repository_name(need.repository):
        found.append(Clause(_in_list(need.repository, "PROBE_CVMFS_OK"), "its CVMFS repository gives data"))
    if need.arch in _ARCHES:
        found.append(Clause(f'(Arch == "{_ARCHES[need.arch]}")', "architecture"))
    if need.arch == "x86_64" and need.microarch and need.microarch != "x86_64-v1":
        found.append(Clause(f'((PROBE_MICROARCH ?: Microarch) >= "{need.microarch}")', "level of the CPU"))
    if gpu:
        found += _gpu_clauses(need)
    found = [
        Clause(f"({each.expression} {'=!= false' if unknown_passes else '=?= true'})", each.about) for each in found
    ]
    if need.kernel:
        # Only OSPool's pilots say the kernel: elsewhere its lack tells nothing.
        kernel = f"((OSG_HOST_KERNEL_VERSION >= {_kernel_number(need.kernel)}) =!= false)"
        found.append(Clause(kernel, "kernel, where a machine says it"))
    return found


def expression(need: Need, *, gpu: bool, unknown_passes: bool) -> str:
    """All conditions as one expression."""
    return " && ".join(clause.expression for clause in clauses(need, gpu=gpu, unknown_passes=unknown_passes))


def _in_list(name: str, attribute: str) -> str:
    """Whether a name stands in a comma-separated list; with regexp, because stringListMember is not known to every parser."""
    pattern = name.replace(".", "[.]")  # no backslash: old and new ClassAds read one differently
    return f'regexp("(^|,){pattern}(,|$)", {attribute})'


def _kernel_number(kernel: Version) -> int:
    """As OSPool writes it: 10000 * major + 100 * minor + patch."""
    major, minor, patch = (*kernel, 0, 0)[:3]
    return 10000 * major + 100 * min(minor, 99) + min(patch, 99)


def _gpu_clauses(need: Need) -> list[Clause]:
    found = [Clause("(PROBE_GPUS > 0)", "a GPU that works")]
    for text in need.cuda or ():
        alternatives = _alternatives(parse_requirement(text))
        wanted = needed_cuda([text])
        least = compatible_driver(wanted) if wanted else None
        if least:
            driver = ".".join(map(str, least))
            alternatives.append(f'versionGE(PROBE_GPU_DRIVER, "{driver}")')
        if alternatives:
            found.append(Clause("(" + " || ".join(alternatives) + ")", "driver and CUDA"))
    return found


def _alternatives(requirement: Requirement) -> list[str]:
    terms = [[_condition(condition) for condition in term] for term in requirement]
    # A condition on a property that no machine ad has (arch, brand) makes its alternative unusable, not true.
    usable = [[text for text in term if text] for term in terms if all(term)]
    return [text for term in usable if (text := " && ".join(term))]


def _condition(condition: Condition) -> str | None:
    attribute = {"cuda": "PROBE_GPU_CUDA", "driver": "PROBE_GPU_DRIVER"}.get(condition.property)
    if attribute is None:
        return None
    order = f'versioncmp({attribute}, "{condition.value}")'
    return f"{order} {_OPERATORS[condition.operator]} 0"
