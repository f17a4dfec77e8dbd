"""Kibana's Vega specifications, with documents in place of the searches for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Spec = dict[str, Any]
Answer = Callable[[str, Spec], Any]
"""From an index pattern and the body of a search to Elasticsearch's response."""


def vega_spec(saved: Spec) -> Spec | None:
    """The specification in a saved object; None if the object is not a Vega panel."""
    if saved["type"] != "visualization":
        return None
    state = json.loads(saved["attributes"]["visState"])
    return json.loads(state["params"]["spec"]) if state["type"] == "vega" else None


def searches(spec: Any) -> list[Spec]:
    """Each `url` of the specification: an index pattern and the body of a search."""
    if isinstance(spec, list):
        return [found for part in spec for found in searches(part)]
    if not isinstance(spec, dict):
        return []
    own = [spec["url"]] if isinstance(spec.get("url"), dict) else []
    return own + [found for part in spec.values() for found in searches(part)]


def named_searches(spec: Any) -> list[str | None]:
    """The name of each data set that is searched for; None for a data set without a name."""
    if isinstance(spec, list):
        return [found for part in spec for found in named_searches(part)]
    if not isinstance(spec, dict):
        return []
    own = [spec.get("name")] if isinstance(spec.get("url"), dict) else []
    return own + [found for part in spec.values() for found in named_searches(part)]


def answered(spec: Any, answer: Answer) -> Any:
    """The specification as Kibana gives it to Vega: with the responses in place of the searches."""
    if isinstance(spec, list):
        return [answered(part, answer) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if not isinstance(spec.get("url"), dict):
        return {name: answered(part, answer) for name, part in spec.items()}
    response = answer(spec["url"]["index"], spec["url"]["body"])
    return {**{name: part for name, part in spec.items() if name != "url"}, "values": response}
