"""The API's process answers while models load: it must not carry what a worker carries."""

from __future__ import annotations

import subprocess
import sys


def test_the_api_loads_nothing_that_draws() -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'safetensors'}"
    code = f"import sys, sfumato.api.app; print({heavy} & set(sys.modules) or 'light')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "light"
