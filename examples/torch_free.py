"""Answer raw inputs with a bundle where torch can't be imported: python torch_free.py BUNDLE < inputs.jsonl"""

import json
import sys

for blocked in ("torch", "transformers", "timm", "torchvision", "torchaudio"):
    sys.modules[blocked] = None  # type: ignore[assignment]  # any import of it now raises ImportError

import zoo  # noqa: E402

model = zoo.runtime.load(sys.argv[1])
for answer in model.predict([json.loads(line) for line in sys.stdin]):
    print(answer)
