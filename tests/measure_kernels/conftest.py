import importlib

import pytest
import torch


@pytest.fixture(params=["eager", "compiled", "triton"])
def kernel(request):
    """Every kernel that this machine can run; without a GPU the Triton kernel runs in Triton's interpreter."""
    if request.param == "triton":
        pytest.importorskip("triton", minversion="3.7")
    return importlib.import_module(f"hf_momo.kernels.{request.param}")


@pytest.fixture
def device(kernel):
    """The device that the kernel runs on."""
    return torch.device("cuda" if kernel.__name__.endswith("triton") and torch.cuda.is_available() else "cpu")
