"""The example's alerts: each expression is PromQL, and asks for metrics that somebody has."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

import metrics_page
from support.kubernetes import examples
from support.kubernetes.helm import CHART

pytestmark = pytest.mark.chart
OTHERS = {
    "kube_job_failed": {"namespace", "job_name", "condition"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
}
"""The metrics of kube-state-metrics that the alerts use, with their labels."""
ADDED = {"instance", "command", "namespace", "installation"}
"""Labels that the scrape, the metrics file and --metrics-labels add."""
RULES: list[dict[str, Any]] = [
    rule for group in examples.one("PrometheusRule", "temporal-schema")["spec"]["groups"] for rule in group["rules"]
]


def selectors(expression: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Yield every selector of an expression."""
    match expression:
        case promql_parser.VectorSelector():
            yield expression
        case promql_parser.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case promql_parser.ParenExpr():
            yield from selectors(expression.expr)
        case promql_parser.NumberLiteral() | promql_parser.Call():
            assert not getattr(expression, "args", [])
        case _:
            raise AssertionError(expression)


def known() -> dict[str, set[str]]:
    """Return all metrics with their labels."""
    return {metric.name: set(metric.samples[0][0]) | ADDED for metric in metrics_page.every()} | OTHERS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert(rule: dict[str, Any]) -> None:
    """What it asks for is there, with the labels that it names."""
    found = list(selectors(promql_parser.parse(rule["expr"])))
    assert found
    for selector in found:
        assert {matcher.name for matcher in selector.matchers.matchers} <= known()[selector.name]
    said = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", said)) <= known()[found[0].name]
    assert {"summary", "description"} == rule["annotations"].keys()


def test_the_charts_jobs_are_those_of_the_alerts() -> None:
    """The names of the CronJob and of its Jobs are what the expressions look for."""
    ends = (CHART / "templates" / "_helpers.tpl").read_text().count("}}-drift\n")
    assert ends == 1
    patterns = [re.findall(r'=~"([^"]+)"', rule["expr"]) for rule in RULES[:2]]
    assert re.fullmatch(patterns[0][0], "release-temporal-migrations-drift-29123456")
    assert re.fullmatch(patterns[1][0], "release-temporal-migrations-drift")
