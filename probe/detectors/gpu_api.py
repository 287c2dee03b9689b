"""NVIDIA's two libraries by ctypes: the management library (NVML) and CUDA's driver. Whatever is called here may hang or crash.

Functions and their arguments are those of nvml.h and cuda.h; one that an older library does not have is an error code.
"""

from typing import Any, Dict, List, Optional

# nvml.h; 13 is NVML's own code for a function that a library does not have.
FUNCTION_NOT_FOUND = 13
DEVICES_LIMIT = 64
MIG_LIMIT = 16
LARGEST = 1 << 63  # of the report's numbers
# cuda.h, CUdevice_attribute: COMPUTE_CAPABILITY_MAJOR and _MINOR
COMPUTE_CAPABILITY = (75, 76)


class Api:
    """A vendor's library. ``call`` gives its error code, as NVML does for a function that is not there."""

    def __init__(self, path: str) -> None:
        import ctypes

        self._library = ctypes.CDLL(path)

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function that returns an error code; 0 is success."""
        function = getattr(self._library, name, None)
        # ctypes takes results for signed; both vendors' enumerations have no negative one.
        return FUNCTION_NOT_FOUND if function is None else int(function(*arguments)) & 0xFFFFFFFF

    def number(self, name: str, kind: Any, *before: Any) -> Optional[int]:
        """The number that a function writes to its last argument, of a ctypes kind; None on any error."""
        import ctypes

        value = kind(0)
        good = self.call(name, *before, ctypes.byref(value)) == 0 and value.value >= 0
        return int(value.value) if good else None

    def text(self, name: str, *before: Any) -> Optional[str]:
        """The text that a function writes to a buffer; None on any error."""
        import ctypes

        buffer = ctypes.create_string_buffer(96)
        return buffer.value.decode("utf-8", "replace") if self.call(name, *before, buffer, 96) == 0 else None


def ask_nvml(library: str) -> Dict[str, Any]:
    """Driver, CUDA version and devices by NVIDIA's management library. May hang or crash.

    Returns {"load": text} when it can't be loaded, or {"error": code or None, "call": name, "driver_version",
    "cuda_version", "devices": [...]}.
    """
    import ctypes

    try:
        nvml = Api(library)
    except OSError as error:
        return {"load": str(error)}
    code = nvml.call("nvmlInit_v2")
    if code:
        return {"error": code, "call": "nvmlInit_v2"}
    count = ctypes.c_uint(0)
    code = nvml.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
    if code:
        return {"error": code, "call": "nvmlDeviceGetCount_v2"}
    return {
        "error": None,
        "call": "nvmlInit_v2",
        "driver_version": nvml.text("nvmlSystemGetDriverVersion"),
        "cuda_version": cuda_version(nvml.number("nvmlSystemGetCudaDriverVersion_v2", ctypes.c_int)),
        "devices": [_nvml_device(nvml, number) for number in range(min(count.value, DEVICES_LIMIT))],
    }


def cuda_version(number: Optional[int]) -> Optional[str]:
    """12040 is "12.4"; None for 0 and None."""
    return "{}.{}".format(number // 1000, number % 1000 // 10) if number else None


def _nvml_device(nvml: Api, number: int) -> Dict[str, Any]:
    import ctypes

    handle = ctypes.c_void_p()
    code = nvml.call("nvmlDeviceGetHandleByIndex_v2", number, ctypes.byref(handle))
    if code:
        return device("nvidia", error=code)
    major, minor, pending = ctypes.c_int(), ctypes.c_int(), ctypes.c_uint()
    capability = nvml.call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
    ecc, mig = ctypes.c_uint(), ctypes.c_uint()
    has_ecc = nvml.call("nvmlDeviceGetEccMode", handle, ctypes.byref(ecc), ctypes.byref(pending)) == 0
    has_mig = nvml.call("nvmlDeviceGetMigMode", handle, ctypes.byref(mig), ctypes.byref(pending)) == 0
    persistence = nvml.number("nvmlDeviceGetPersistenceMode", ctypes.c_uint, handle)
    return device(
        "nvidia",
        model=nvml.text("nvmlDeviceGetName", handle),
        uuid=nvml.text("nvmlDeviceGetUUID", handle),
        memory_bytes=_memory(nvml, handle),
        compute_capability=None if capability else "{}.{}".format(major.value, minor.value),
        mig=("enabled" if mig.value else "disabled") if has_mig else None,
        ecc=bool(ecc.value) if has_ecc else None,
        persistence=None if persistence is None else bool(persistence),
        instances=_mig_instances(nvml, handle) if has_mig and mig.value else [],
    )


def _memory(nvml: Api, handle: Any) -> Optional[int]:
    import ctypes

    memory = (ctypes.c_ulonglong * 3)()  # total, free, used
    known = nvml.call("nvmlDeviceGetMemoryInfo", handle, memory) == 0 and memory[0] < LARGEST
    return int(memory[0]) if known else None


def _mig_instances(nvml: Api, parent: Any) -> List[Dict[str, Any]]:
    """The MIG devices of a GPU, in NVML's order. Places may be empty."""
    import ctypes

    found = []
    places = nvml.number("nvmlDeviceGetMaxMigDeviceCount", ctypes.c_uint, parent) or 0
    for place in range(min(places, MIG_LIMIT)):
        handle = ctypes.c_void_p()
        if nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", parent, place, ctypes.byref(handle)) == 0:
            ids = [
                nvml.number(name, ctypes.c_uint, handle)
                for name in ("nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId")
            ]
            row: Dict[str, Any] = dict(zip(("gpu_instance", "compute_instance"), ids))
            row.update(uuid=nvml.text("nvmlDeviceGetUUID", handle), model=nvml.text("nvmlDeviceGetName", handle))
            row.update(memory_bytes=_memory(nvml, handle))
            found.append(row)
    return found


def device(vendor: str, **known: Any) -> Dict[str, Any]:
    """One GPU of the report; what is not known is None."""
    row: Dict[str, Any] = dict.fromkeys(
        ("vendor", "model", "uuid", "memory_bytes", "compute_capability", "mig", "ecc", "persistence", "error")
    )
    row.update({"instances": []}, **known)
    row["vendor"] = vendor
    return row


def ask_cuda(library: str) -> Dict[str, Any]:
    """Initialise CUDA's driver as a program does. May hang or crash.

    Returns {"load": text} when it can't be loaded, or {"error": code or None, "call": name, "cuda_version", "count": how
    many devices this slot sees, "devices": [...]}.
    """
    import ctypes

    try:
        cuda = Api(library)
    except OSError as error:
        return {"load": str(error)}
    answer: Dict[str, Any] = {"error": None, "call": "cuInit", "count": None, "devices": []}
    answer["cuda_version"] = cuda_version(cuda.number("cuDriverGetVersion", ctypes.c_int))
    code = cuda.call("cuInit", 0)
    if code:
        return dict(answer, error=code)
    count = cuda.number("cuDeviceGetCount", ctypes.c_int)
    devices = [_cuda_device(cuda, number) for number in range(min(count or 0, DEVICES_LIMIT))]
    return dict(answer, count=count, devices=devices)


def _cuda_device(cuda: Api, number: int) -> Dict[str, Any]:
    """A device as CUDA describes it, less than NVML does."""
    import ctypes

    handle, size = ctypes.c_int(), ctypes.c_size_t()
    cuda.call("cuDeviceGet", ctypes.byref(handle), number)
    name, uuid = ctypes.create_string_buffer(96), (ctypes.c_ubyte * 16)()
    named = cuda.call("cuDeviceGetName", name, 96, handle) == 0
    has_uuid = cuda.call("cuDeviceGetUuid", uuid, handle) == 0
    sized = cuda.call("cuDeviceTotalMem_v2", ctypes.byref(size), handle) == 0
    parts = [_attribute(cuda, attribute, handle) for attribute in COMPUTE_CAPABILITY]
    return device(
        "nvidia",
        model=name.value.decode("utf-8", "replace") if named else None,
        uuid=uuid_text(bytes(uuid)) if has_uuid else None,
        memory_bytes=size.value if sized and size.value < LARGEST else None,
        compute_capability=None if None in parts else "{}.{}".format(*parts),
    )


def _attribute(cuda: Api, attribute: int, handle: Any) -> Optional[int]:
    import ctypes

    value = ctypes.c_int()
    return value.value if cuda.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, handle) == 0 else None


def uuid_text(data: bytes) -> str:
    """The 16 bytes of a UUID as NVML writes it: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6."""
    digits = data.hex()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
