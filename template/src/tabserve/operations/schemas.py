"""What Kubernetes' schemas say: unknown kinds and fields, missing fields, wrong types."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tabserve.errors import suggestion
from tabserve.operations.manifests import Document, label

# API groups of Kubernetes itself: there are no schemas for others, such as ServiceMonitor.
BUILT_IN = re.compile(r"(([a-z]+|[a-z]+(\.authorization|\.apiserver)?\.k8s\.io)/)?v\w+")


def check(documents: Iterable[Document]) -> Iterator[str]:
    """The first problem of each document, by the newest schemas."""
    import kubernetes_validate as schemas  # takes 0.2 s

    for document in documents:
        if missing := [key for key in ("apiVersion", "kind") if not isinstance(document.get(key), str)]:
            yield f"{label(document)}: {missing[0]} is missing"
            continue
        try:
            schemas.validate(document, schemas.latest_version(), strict=True)
        except schemas.SchemaNotFoundError as error:
            if BUILT_IN.fullmatch(error.api_version):
                yield f"{label(document)}: Kubernetes {error.version} has no such kind in {error.api_version}"
        except schemas.ValidationError as error:
            path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
            yield f"{label(document)}: {path[1:]}{': ' if path else ''}{_described(error)}"


def _described(error: Any) -> str:
    shown, wanted = repr(error.instance)[:60], error.validator_value
    known = error.schema.get("properties", {})
    unknown = [str(key) for key in error.instance if key not in known] if isinstance(error.instance, dict) else []
    if error.validator in ("additionalProperties", "required") and unknown:
        return f"unknown field {unknown[0]!r}{suggestion(unknown[0], known)}"
    if error.validator == "oneOf":
        return f"{shown} must be text or a number"
    if error.validator == "type":
        kind = wanted if isinstance(wanted, str) else wanted[0]
        hint = ": put it in quotes" if kind == "string" and not isinstance(error.instance, dict | list) else ""
        return f"{shown} is not of type {kind!r}{hint}"
    return str(error.message)
