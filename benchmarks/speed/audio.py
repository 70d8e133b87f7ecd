"""Wav2Vec2-base over WAV files: what is heard, by CTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, bundles, compiled, exported, read

FACTS = {
    "title": "Speech",
    "model": "Wav2Vec2-base with a CTC head, random weights",
    "data": "WAV files of 2 to 15 seconds, 16 kHz",
}
_HERE = "benchmarks.speed.audio"
_TASK = "automatic-speech-recognition"


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    longest = 3.0 if setting.quick else 15.0
    paths = data.recordings(setting.folder / "recordings", setting.size(4, 4), longest=longest)
    others = data.recordings(setting.folder / "others", setting.size(8, 6), longest=3.0, seed=1)
    folder = checkpoints.wav2vec2(setting.folder / "wav2vec2", others[:3], tiny=setting.quick)
    model = zoo.load(folder, task=_TASK, device="cpu")
    made = exported(setting, model, [str(path) for path in others])
    del model
    given = {"folder": str(folder), "inputs": setting.kept("recordings", paths), "device": setting.device}
    yield Contest(
        f"{len(paths)} recordings", len(paths), "recordings",
        [
            Contestant("transformers pipeline", f"{_HERE}:pipeline", given),
            # Its padding changes what these models answer, and it is refused wherever that shows.
            Contestant("pipeline, sorted, 4 a batch", f"{_HERE}:pipeline", {**given, "batch_size": 4}),
            Contestant("torch loop", f"{_HERE}:loop", given),
            Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
            *(
                [Contestant("zoo, torch, 4 a batch", f"{_HERE}:ours", {**given, "batch_size": 4}, ours=True)]
                if setting.device == "cuda"
                else ()
            ),
            compiled(f"{_HERE}:ours", given, setting),
            *bundles(f"{_HERE}:bundle", given, made),
        ],
    )  # fmt: skip


def pipeline(folder: str, inputs: str, device: str, batch_size: int | None = None) -> Ready:
    """Files are decoded here, by soundfile: the pipeline's own way needs FFmpeg."""
    import soundfile
    import transformers

    asked = transformers.pipeline(_TASK, model=folder, device=device)
    paths = read(inputs)
    options = {} if batch_size is None else {"batch_size": batch_size}

    def run() -> Answer:
        sounds = [soundfile.read(path, dtype="float32")[0] for path in paths]
        order = sorted(range(len(paths)), key=lambda p: len(sounds[p])) if options else list(range(len(paths)))
        given = [{"raw": sounds[place], "sampling_rate": data.SAMPLING_RATE} for place in order]
        found = asked(given, **options)
        texts = {place: item["text"] for place, item in zip(order, found, strict=True)}
        return _told(texts[place] for place in range(len(paths)))

    return Ready(run)


def loop(folder: str, inputs: str, device: str) -> Ready:
    """What the model's page says: processor, forward, the best letter of each frame, one recording at a time."""
    import soundfile
    import torch
    from transformers import AutoProcessor, Wav2Vec2ForCTC

    processor = AutoProcessor.from_pretrained(folder)
    model = Wav2Vec2ForCTC.from_pretrained(folder).to(device).eval()
    paths = read(inputs)

    @torch.inference_mode()
    def run() -> Answer:
        texts = []
        for path in paths:
            sound, rate = soundfile.read(path, dtype="float32")
            batch = processor(sound, sampling_rate=rate, return_tensors="pt").to(device)
            texts += processor.batch_decode(model(**batch).logits.argmax(-1))
        return _told(texts)

    return Ready(run)


def ours(folder: str, inputs: str, device: str, compiled: bool = False, batch_size: int | None = None) -> Ready:
    import zoo

    model = zoo.load(folder, task=_TASK, device=device, compile=compiled)
    paths = read(inputs)
    return Ready(lambda: _told(item.text for item in model.predict(paths, batch_size=batch_size or "auto")))


def bundle(folder: str, inputs: str, device: str) -> Ready:
    import zoo

    model = zoo.runtime.load(folder, device=device)
    paths = read(inputs)
    return Ready(lambda: _told(item.text for item in model.predict(paths)))


def _told(texts: Iterable[str]) -> Answer:
    """Words: where nothing is heard between two spaces, transformers writes both, and this project one."""
    return Answer([" ".join(text.split()) for text in texts])
