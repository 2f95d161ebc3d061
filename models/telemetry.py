"""What a job takes of the machine at this moment: its device, its memory, how busy the GPU is.

Torch is asked only where the job has imported it already, and a GPU only where it is in use: looking costs microseconds
on the CPU, and starts nothing.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MB = 1e6  # bytes


def now() -> dict[str, Any]:
    """Device and memory of the calling process, ready for JSON; it raises nothing.

    Returns
    -------
    device
        "cpu", or "cuda:0 NAME": of several GPUs that on which the process holds most memory.
    memory_mb
        Resident memory of the process in MB (10⁶ bytes); None where the system does not say.
    gpu
        None on a CPU, else `use`, the percentage of the last moments in which any process computed on it (None without
        nvidia-ml-py, or where the driver does not say), `memory_mb`, what this process holds of its memory, and
        `of_mb`, all that it has.
    """
    device, gpu = "cpu", None
    with suppress(Exception):  # a driver that falters must not take a job with it
        device, gpu = _gpu() or ("cpu", None)
    return {"device": device, "memory_mb": resident_mb(), "gpu": gpu}


def resident_mb() -> float | None:
    """Resident memory of the calling process in MB; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / MB, 1)


def _gpu() -> tuple[str, dict[str, Any]] | None:
    """Name and use of the GPU that this process computes on; None where it computes on none."""
    torch: Any = sys.modules.get("torch")  # never imported here: in a job that needs none it would cost seconds
    cuda = getattr(torch, "cuda", None)  # absent while another thread is still importing it
    if cuda is None or not cuda.is_initialized():
        return None
    held = [cuda.memory_reserved(number) for number in range(cuda.device_count())]
    number = held.index(max(held))
    about = cuda.get_device_properties(number)
    use = None
    with suppress(Exception):  # ModuleNotFoundError, or one of the driver's library
        use = int(cuda.utilization(number))
    gpu = {"use": use, "memory_mb": round(held[number] / MB, 1), "of_mb": round(about.total_memory / MB, 1)}
    return f"cuda:{number} {about.name}", gpu
