"""``python -m hf_momo`` is ``hf-momo``: for ``accelerate launch -m hf_momo run ...`` and ``torchrun -m``."""

import sys

from hf_momo.cli import main

if __name__ == "__main__":
    sys.exit(main())
