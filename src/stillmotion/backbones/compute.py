"""Where models run: device, threads and determinism."""

import contextlib
import math

import torch

from stillmotion.config.environment import Environment
from stillmotion.errors import InputError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def prepare_torch(environment: Environment, threads: int) -> torch.device:
    """Fix threads, rounding and deterministic kernels for this process and return the device to use."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # What use_deterministic_algorithms(True, warn_only=True) sets, without importing torch's compiler for two seconds.
    torch.set_deterministic_debug_mode("warn")
    name = environment.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"environment variable STILLMOTION_DEVICE is {name!r}: {reason}; set cpu or auto") from None
    return device


def exponential(x: torch.Tensor) -> torch.Tensor:
    """E to the power of x, to the same bytes on every processor.

    torch.exp, log, sqrt and logsumexp go through MKL's vector functions, whose last digits differ between Intel's and
    AMD's processors whatever instructions they are held to; exp2 and pow are torch's own, and so are softmax, cross
    entropy, GELU, SiLU and norms. MKL's cosines and sines agree where rotary positions ask for them.
    """
    return torch.exp2(x * math.log2(math.e))


def inverse_temperature(log_scale: torch.Tensor) -> torch.Tensor:
    """E to the power of `log_scale`, at most 100 as in CLIP, which can be learned downwards from there.

    Many published models stand at 100 or a little above it, where a mere clamp has no gradient and they would stay.
    """
    scale = exponential(log_scale)
    return scale.detach().clamp(max=100.0) + (scale - scale.detach())


def square_root(x: torch.Tensor) -> torch.Tensor:
    """The root of x, correctly rounded; see `exponential`."""
    return x**0.5


def autocast(device: torch.device, gpu_precision: str) -> contextlib.AbstractContextManager[object]:
    """Mixed precision on a GPU, full precision elsewhere."""
    if device.type != "cuda" or gpu_precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast("cuda", dtype=_DTYPES[gpu_precision])
