import importlib

import pytest
import torch


@pytest.fixture(params=["eager", "compiled", "triton"])
def kernel(request):
    """Every kernel that runs here, the Triton one in Triton's interpreter where there is no GPU."""
    if request.param == "triton":
        pytest.importorskip("triton")
    return importlib.import_module(f"hf_momo.kernels.{request.param}")


@pytest.fixture
def device(kernel):
    """Where the kernel runs."""
    return torch.device("cuda" if kernel.__name__.endswith("triton") and torch.cuda.is_available() else "cpu")
