"""What a process tells Prometheus, as Prometheus' own parser reads it."""

from __future__ import annotations

import httpx
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import PATIENCE

#: As scrapers send it that know both formats.
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"


class Metrics:
    """One scrape.

    Attributes:
        families: by name, without ``_total``.
    """

    def __init__(self, url: str, *, accept: str = "text/plain") -> None:
        answer = httpx.get(f"{url}/metrics", headers={"Accept": accept}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        self.media_type = answer.headers["content-type"]
        parse = text_string_to_metric_families
        if self.media_type.startswith("application/openmetrics-text"):
            parse = openmetrics.text_string_to_metric_families
        self.families: dict[str, Metric] = {family.name: family for family in parse(answer.text)}

    def value(self, sample: str, **labels: str) -> float | None:
        """Of the sample with exactly these labels; None where there is none."""
        for family in self.families.values():
            for found in family.samples:
                if (found.name, found.labels) == (sample, labels):
                    return float(found.value)
        return None

    def labels(self) -> set[tuple[str, str]]:
        """Every label and its value, of ours."""
        return {
            pair
            for family in self.families.values()
            for sample in family.samples
            if sample.name.startswith("sfumato_")
            for pair in sample.labels.items()
        }

    def names(self) -> set[str]:
        """Of ours that have a value, as documentation writes them: counters with ``_total``."""
        return {
            f"{name}_total" if family.type == "counter" else name
            for name, family in self.families.items()
            if name.startswith("sfumato_") and family.samples
        }
