"""What a Hugging Face dataset says of its columns: as its own objects, or as the JSON that Parquet files carry."""

from __future__ import annotations

from typing import Any

_CATEGORIES = ("category", "label", "labels", "category_id", "categories", "class")


def feature_names(feature: Any) -> tuple[str, ...] | None:
    """The labels behind whole numbers: a ClassLabel's names, or those of a list of ClassLabel."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature_names(feature[0])
    if _type(feature) == "ClassLabel":
        names = _get(feature, "names")
        return tuple(map(str, names)) if names else None
    if isinstance(feature, dict) and "_type" not in feature:
        # Objects of an image: a dict of boxes and categories.
        return next((found for key in _CATEGORIES if (found := feature_names(feature.get(key)))), None)
    inner = _get(feature, "feature")
    return feature_names(inner) if inner is not None else None


def feature_kind(feature: Any) -> str | None:
    """ "image" or "audio", for a column of files."""
    return {"Image": "image", "Audio": "audio"}.get(_type(feature))


def _type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else type(feature).__name__


def _get(feature: Any, key: str) -> Any:
    return feature.get(key) if isinstance(feature, dict) else getattr(feature, key, None)
