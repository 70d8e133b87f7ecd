"""The main job, whole: a text, an image and an audio model from pretrained weights to a torch-free bundle.

Runs the three examples beside this file and ends with one table.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import distributions

from common import HERE, arguments, table

SCRIPTS = {"text": "text_entities.py", "vision": "image_digits.py", "audio": "audio_digits.py"}


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def main() -> None:
    options = arguments(__doc__, "")
    passed = [f"--{name}" for name in ("hub", "quick") if getattr(options, name)]
    start = time.monotonic()
    for name, script in SCRIPTS.items():
        print(f"\n=== {script}", flush=True)
        command = [sys.executable, str(HERE / script), "--output", str(options.output / name), *passed]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed with exit code {done.returncode}")
    rows = [json.loads(path.read_text()) for path in sorted(options.output.rglob("result.json"))]
    packages = ("polyzoo", "torch", "transformers", "timm", "onnxruntime", "onnxruntime-gpu", "numpy")
    installed = {dist.name: dist.version for dist in distributions() if dist.name in packages}
    machine = {"device": device(), "cores": os.cpu_count(), "python": platform.python_version(), "versions": installed}
    (options.output / "main_job.json").write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    print(f"\n=== All three modalities, in {(time.monotonic() - start) / 60:.1f} minutes\n")
    print(table(rows))
    if not all(row["parity_passed"] for row in rows):
        raise SystemExit("A bundle answered differently from torch.")


if __name__ == "__main__":
    main()
