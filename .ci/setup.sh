#!/bin/sh
# Make the virtual environment $1 and install this project with the extra $2; PyTorch $3 where there is no GPU. With
# "lowest" in place of $3, the lowest version of all that pyproject.toml names, and Python 3.10 if it is found.
set -eu
venv=$1
extra=$2
torch=$3

find_python() {
    oldest=
    [ "$torch" != lowest ] || oldest="python3.10 ${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/3.10.*/bin/python"
    for name in ${PYTHON3:-} $oldest python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python 3.10 or newer with the venv module was found; install one (on Debian: python3 and python3-venv)" \
        "or name it: make PYTHON3=/path/to/python3" >&2
    exit 1
}

has_gpu() {
    [ -e /dev/nvidia0 ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || [ -e /dev/kfd ] ||
        command -v nvidia-smi >/dev/null 2>&1
}

# A release that is installed already would be kept, though lower ones may do.
[ "$torch" != lowest ] || rm -rf "$venv"
if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    python=$(find_python)
    echo "==> making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"

if [ "$torch" = lowest ]; then
    echo "==> installing the lowest version of everything that the extra $extra names"
    $pip install uv
    install_lowest() {
        # Later releases of pyparsing warn of what the lowest matplotlib calls.
        "$venv/bin/uv" --quiet pip install --python "$venv/bin/python" --compile-bytecode --resolution lowest-direct \
            --editable ".[$extra]" "pyparsing==3.2" "$@"
    }
    # PyTorch's own index has builds for the CPU alone; PyPI's are gigabytes larger, but may be all that can be reached.
    install_lowest --torch-backend auto 2>/dev/null || install_lowest
elif ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    if [ "$(uname)" = Linux ] && ! has_gpu; then
        # PyPI's own build for Linux brings several gigabytes of CUDA. The CPU build comes from where pip is set up to look,
        # or else from PyTorch's own index, which uv knows.
        echo "==> installing torch $torch for the CPU (no GPU here)"
        $pip install "torch==$torch+cpu" 2>/dev/null || {
            $pip install uv
            "$venv/bin/uv" --quiet pip install --python "$venv/bin/python" --torch-backend cpu "torch==$torch"
        }
    else
        echo "==> installing torch"
        $pip install torch
    fi
fi

echo "==> installing hf_momo with the extra $extra"
$pip install --editable ".[$extra]"
echo "==> ready: $("$venv/bin/python" -c 'import accelerate, torch, transformers
print(f"torch {torch.__version__}, transformers {transformers.__version__}, accelerate {accelerate.__version__}")')"
