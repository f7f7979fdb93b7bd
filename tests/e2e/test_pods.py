"""The pods."""

import base64
import ssl
from collections.abc import Callable

import pytest
import trustme
from kubernetes.dynamic.exceptions import ForbiddenError

from support.kubernetes import examples
from support.kubernetes.cluster import Cluster
from support.kubernetes.containers import IMAGE
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import OLDER, Installation, namespace
from support.postgres.databases import Databases
from support.postgres.tls import TlsFront

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Measured = Callable[[str], None]


def test_restricted(cluster: Cluster, databases: Databases, host: str, measured: Measured) -> None:
    """A namespace that enforces the restricted pod security standard accepts the hook's pods, and no plain pod."""
    with namespace(cluster, **{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        made = Installation(cluster=cluster, namespace=name, databases=databases, host=host)
        made.secret()
        pod = {"containers": [{"name": "any", "image": IMAGE}]}
        with pytest.raises(ForbiddenError, match="violates PodSecurity"):
            cluster.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": name}, "spec": pod}
            )
        done = made.helm("install", values=made.values({"verify": {"enabled": True}}))
        assert done.returncode == 0, done.stderr
        assert made.helm("test").returncode == 0
        made.assert_at(OLDER)
    measured("hook, verifying Job and `helm test` run; a plain pod is refused")


def test_client_certificates(installation: Installation, measured: Measured) -> None:
    """A server that requires a client certificate gets the one in the Secret, from a volume that libpq accepts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(installation.host).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("client@example.com")
    keys = {
        "ca.crt": authority.cert_pem.bytes(),
        "tls.crt": b"".join(one.bytes() for one in client.cert_chain_pems),
        "tls.key": client.private_key_pem.bytes(),
    }
    secret(installation, "certificates", keys)
    given = {
        "enabled": True,
        "existingSecret": "certificates",
        "caKey": "ca.crt",
        "certKey": "tls.crt",
        "keyKey": "tls.key",
    }
    server = installation.databases.engine
    with TlsFront(context, server.host, server.port, listen=installation.host) as front:
        values = installation.values({"connection": {"port": front.port, "tls": given}})
        done = installation.helm("install", values=values)
        assert done.returncode == 0, done.stderr + str(installation.last_words())
    installation.assert_at(OLDER)
    measured("installed through TLS with a client certificate, key mode 0440")


def secret(installation: Installation, name: str, data: dict[str, bytes]) -> None:
    """Make a Secret."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": installation.namespace}
    installation.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})


def test_servers_wait(installation: Installation, measured: Measured) -> None:
    """The example's init container holds a server back until both schemas are at its versions."""
    server = examples.one("Application", "temporal")["spec"]["source"]["helm"]["valuesObject"]["server"]
    (waiting,) = server["additionalInitContainers"]
    version = server["image"]["tag"]
    pod = beside(installation, waiting)
    installation.cluster.apply(pod)
    done = installation.helm("install", values=installation.values())
    assert done.returncode == 0, done.stderr
    found = installation.cluster.get("Pod", "server", installation.namespace)
    assert found
    assert found["status"]["phase"] == "Pending"
    done = installation.helm("upgrade", values=installation.values({"serverVersion": version}))
    assert done.returncode == 0, done.stderr
    assert installation.finished("server").code == 0
    measured(f"Pending without a schema and at {OLDER}'s, started at {version}'s")


def beside(installation: Installation, waiting: Manifest) -> Manifest:
    """Return a pod with the example's init container, its addresses those of this installation, before another one."""
    own = {
        "SQL_HOST": installation.host,
        "SQL_USER": installation.databases.user,
        "SQL_PORT": str(installation.databases.port),
        "DEFAULT_SQL_DATABASE": installation.databases.default,
        "VISIBILITY_SQL_DATABASE": installation.databases.visibility,
    }
    env = [item for item in waiting["env"] if item["name"] not in own]
    env += [{"name": name, "value": value} for name, value in own.items()]
    init = {**waiting, "image": IMAGE, "env": env, "imagePullPolicy": "IfNotPresent"}
    init["securityContext"] = {**waiting["securityContext"], "runAsUser": 65532}
    main = {"name": "server", "image": IMAGE, "args": ["--version"], "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server", "namespace": installation.namespace},
        "spec": {"restartPolicy": "Never", "initContainers": [init], "containers": [main]},
    }
