"""Script that compiles the Triton kernel for GPUs that need not be present, and prints the assembly.

    python device_code.py cuda:90:32 float32 ...

Each pair of arguments is a target (backend, architecture, threads of a warp) and the dtype of the tensors.
"""

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hf_momo.kernels import triton_code
from hf_momo.kernels.triton import BLOCK, CHUNK, NUM_WARPS

NAMES = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}


def assembly(target, stored):
    """Return all text that the compiler keeps, by the name of the stage."""
    backend, architecture, warp = target.split(":")
    types = {str(dtype).removeprefix("torch."): tl_dtype for dtype, tl_dtype in triton_code.DTYPES.items()}
    summed = "float64" if stored == "float64" else "float32"
    constants = {
        "STORED": types[stored],
        "SUMMED": types[summed],
        "ADAM": True,
        "MOMENTUM": True,
        "SIGN": False,
        "BATCH": True,
        "CHUNK": CHUNK,
        "BLOCK": BLOCK,
    }
    pointers = dict.fromkeys(("grad_weight", "scaled_eps", "corrections", "partials"), f"*{NAMES[summed]}")
    signature = {"table": "*i64", "num_rows": "i32", "num_chunks": "i32", **pointers}
    source = ASTSource(
        triton_code.measure_kernel,
        {**signature, **dict.fromkeys(constants, "constexpr")},
        {(triton_code.measure_kernel.arg_names.index(name),): value for name, value in constants.items()},
    )
    gpu = GPUTarget(backend, int(architecture) if architecture.isdigit() else architecture, int(warp))
    compiled = triton.compile(source, target=gpu, options={"num_warps": NUM_WARPS})
    return {stage: text for stage, text in compiled.asm.items() if isinstance(text, str)}


if __name__ == "__main__":
    pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
    json.dump([assembly(target, stored) for target, stored in pairs], sys.stdout)
