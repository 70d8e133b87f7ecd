"""`zoo.runtime.load`: a folder to a model that answers, and soon.

It imports next to nothing itself: the weights are hashed, and the graph is opened, while the model's side is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.blas import settle
from zoo.errors import BundleError
from zoo.manifest import GRAPH, SHORTLIST, Checking

if TYPE_CHECKING:
    from zoo.runtime.model import BundleModel
    from zoo.runtime.session import Device, How


def load(
    folder: str | Path,
    *,
    device: Device | Literal["auto"] = "cpu",
    fallback: bool = False,
    threads: int | None = None,
    spin: bool = True,
    packed: bool = False,
    verify: bool = True,
) -> BundleModel:
    """Open an exported bundle.

    device: "cpu"; "cuda", which raises DeviceError when CUDA can't be had, unless `fallback`; or "auto".
    threads: of one operator, ONNX Runtime's own choice when None.
    spin: whether these threads keep their cores busy while they wait for the next operator; False where the process has
        other work to do. When True, many texts or recordings at once are answered by as many callers as there are
        threads, of one thread each, which takes the graph's weights a second time.
    packed: on a CPU, whether large weights are laid out for speed before the first answer, as a server wants it. Else
        the first answer comes sooner, and from the second on they are laid out beside the answers, which are quicker
        from then on and equal within rounding.
    verify: hash every file against the manifest first; BundleError when a byte has changed.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BundleError(f"There is no bundle at {path}. Model.export() or `zoo export` writes one.")
    checking = Checking(path) if verify else None
    settle()
    from zoo.runtime.session import Ahead

    how: How = {"device": device, "fallback": fallback, "threads": threads, "spin": spin, "packed": packed}
    try:
        # As `open_graphs` does it, which reads first what is in the folder.
        first = SHORTLIST if device == "cpu" and (path / SHORTLIST).is_file() else GRAPH
        ahead = Ahead(path / first, **how) if (path / first).is_file() else None
        from zoo.runtime.model import opened

        model = opened(path, ahead, **how)
    except Exception:
        # Weights that have changed may be why, and that is what is said then.
        if checking is not None:
            checking.finish()
        raise
    if checking is not None:
        checking.finish()
    return model
