"""The main job, whole: a text, an image and an audio model from pretrained weights to a torch-free bundle.

Runs the three examples beside this file and ends with one table. Takes --hub and --quick through to them.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

from common import HERE, table

SCRIPTS = ("text_entities.py", "image_digits.py", "audio_digits.py")


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def main() -> None:
    start = time.monotonic()
    for script in SCRIPTS:
        print(f"\n=== {script}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / script), *sys.argv[1:]], check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed with exit code {done.returncode}")
    output = Path("demo-output")
    rows = [json.loads(path.read_text()) for path in sorted(output.rglob("result.json"))]
    packages = ("polyzoo", "torch", "transformers", "timm", "onnxruntime", "onnxruntime-gpu", "numpy")
    installed = {dist.name: dist.version for dist in distributions() if dist.name in packages}
    machine = {"device": device(), "cores": os.cpu_count(), "python": platform.python_version(), "versions": installed}
    (output / "main_job.json").write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    print(f"\n=== All three modalities, in {(time.monotonic() - start) / 60:.1f} minutes\n")
    print(table(rows))
    if not all(row["parity_passed"] for row in rows):
        raise SystemExit("A bundle answered differently from torch.")


if __name__ == "__main__":
    main()
