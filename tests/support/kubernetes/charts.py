"""Our chart with one of the values files in ci/: what helm makes of it, and what it refuses."""

import json
from typing import Any

from support.kubernetes.helm import CHART, Manifest, rendered, template

POLICY = "before-hook-creation,hook-succeeded"


def given(values: str) -> tuple[str, str]:
    """Return the arguments for one of the values files in ci/."""
    return "--values", str(CHART / "ci" / f"{values}-values.yaml")


def render(values: str, *args: str, release: str = "release") -> list[Manifest]:
    """Return what helm makes of the chart with one of the values files in ci/."""
    return rendered(*given(values), *args, release=release)


def refusal(*args: str) -> str:
    """Return what helm says of values that it must not take."""
    done = template(*given("minimal"), *args)
    assert done.returncode != 0
    return done.stderr


def set_json(**values: object) -> tuple[str, ...]:
    """Return the arguments that set values."""
    return tuple(word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}"))


def one(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the only manifest of a kind whose name holds that, the migration's own if nothing is said."""
    names = {item["metadata"]["name"]: item for item in manifests if item["kind"] == kind}
    others = tuple(other for other in ("-preflight", "-verify", "-namespaces", "-ns-") if other != suffix)
    (found,) = [name for name in names if suffix in name and not any(other in name for other in others)]
    return names[found]


def trigger(manifests: list[Manifest]) -> str:
    """Return the hash that Argo CD compares."""
    return str(one(manifests, "ConfigMap")["data"]["hash"])


def pod(manifests: list[Manifest], suffix: str = "") -> Manifest:
    """Return the spec of a Job's pod, of the migration's if nothing is said."""
    return dict(one(manifests, "Job", suffix)["spec"]["template"]["spec"])


def variables(container: Manifest) -> dict[str, Any]:
    """Return a container's variables: their values, or where they come from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}
