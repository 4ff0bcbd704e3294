"""Who may do what: certificates, service-account tokens, RBAC and impersonation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.harness import ApiServer, Http, Kubectl

pytestmark = pytest.mark.e2e


def as_token(kubectl: Kubectl, token: str, folder: Path) -> Kubectl:
    """The real kubectl with a bearer token instead of the administrator's certificate."""
    document = yaml.safe_load(kubectl.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    file = folder / "token.kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return Kubectl(file, kubectl.version, kubectl.namespace, kubectl.cache_dir)


def new_token(http: Http, kubectl: Kubectl, account: str, **spec: Any) -> str:
    kubectl("create", "serviceaccount", account)
    path = f"/api/v1/namespaces/{kubectl.namespace}/serviceaccounts/{account}/token"
    answer = http("POST", path, body={"spec": spec})
    assert answer.status == 201, answer
    return str(answer.document["status"]["token"])


def test_kubeconfig_is_private(api_server: ApiServer) -> None:
    """The administrator's kubeconfig is readable by its owner alone."""
    assert api_server.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_whoami(admin: Kubectl) -> None:
    """The certificate's common name is the user, its organisations are the groups."""
    admin.version.need(27, "auth whoami")
    info = json.loads(admin("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert info["username"] == "ondol:admin"
    assert "system:masters" in info["groups"]


def test_create_token(kubectl: Kubectl, tmp_path: Path) -> None:
    """`create token` gives a token by which its service account is recognised."""
    kubectl.version.need(24, "create token")
    token = kubectl("create", "token", "default", "--duration=10m").strip()
    robot = as_token(kubectl, token, tmp_path)
    who = f"system:serviceaccount:{kubectl.namespace}:default"
    assert f'User "{who}" cannot list resource "pods"' in robot.refused("get", "pods")


def test_rbac_allows_what_it_says(kubectl: Kubectl, http: Http, tmp_path: Path) -> None:
    """A role binding lets a service account do that and no more, from the next request on."""
    robot = as_token(kubectl, new_token(http, kubectl, "robot"), tmp_path)
    message = robot.refused("get", "pods")
    expected = (
        f'pods is forbidden: User "system:serviceaccount:{kubectl.namespace}:robot" cannot list resource '
        f'"pods" in API group "" in the namespace "{kubectl.namespace}"'
    )
    assert expected in message
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "rolebinding", "r", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot")
    robot("get", "pods")
    assert 'cannot create resource "configmaps"' in robot.refused("create", "configmap", "a")
    assert "at the cluster scope" in robot.refused("get", "nodes")
    kubectl("delete", "rolebinding", "r")
    robot.refused("get", "pods")


def test_can_i(kubectl: Kubectl) -> None:
    """`auth can-i` answers for oneself and for others."""
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    other = kubectl.run("auth", "can-i", "create", "pods", "--as", "somebody")
    assert (other.status, other.out.strip()) == (1, "no")
    assert "*.*" in kubectl("auth", "can-i", "--list")


def test_impersonation(kubectl: Kubectl) -> None:
    """An administrator may act as another user or group, and is then no more than they."""
    assert 'User "bob" cannot list resource "pods"' in kubectl.refused("get", "pods", "--as", "bob")
    kubectl("get", "pods", "--as", "bob", "--as-group", "system:masters")


def test_impersonation_must_be_allowed(kubectl: Kubectl, http: Http, tmp_path: Path) -> None:
    """Who may not impersonate is told so."""
    robot = as_token(kubectl, new_token(http, kubectl, "robot"), tmp_path)
    assert 'cannot impersonate resource "users"' in robot.refused("get", "pods", "--as", "bob")


def test_no_escalation(kubectl: Kubectl, http: Http, tmp_path: Path) -> None:
    """Who may write roles cannot grant more than they have."""
    robot = as_token(kubectl, new_token(http, kubectl, "robot"), tmp_path)
    kubectl("create", "role", "author", "--verb=create,get", "--resource=roles.rbac.authorization.k8s.io")
    kubectl("create", "rolebinding", "a", "--role=author", f"--serviceaccount={kubectl.namespace}:robot")
    message = robot.refused("create", "role", "all", "--verb=get", "--resource=secrets")
    assert "attempting to grant RBAC permissions not currently held" in message


def test_bad_tokens_are_refused(kubectl: Kubectl, http: Http, tmp_path: Path) -> None:
    """A broken, a tampered and a foreign token are each 401, never anonymous."""
    good = new_token(http, kubectl, "robot")
    head, body, signature = good.split(".")
    for bad in ("nonsense", f"{head}.{body}.", f"{head}.{body}.{signature[::-1]}", f"{head}..{signature}"):
        answer = http("GET", "/api", anonymous=True, headers={"Authorization": f"Bearer {bad}"})
        assert answer.status == 401, bad
        assert answer.document["reason"] == "Unauthorized"
    assert as_token(kubectl, "nonsense", tmp_path).run("get", "pods").status != 0


def test_token_ends_with_its_account(kubectl: Kubectl, http: Http, tmp_path: Path) -> None:
    """A token is worth nothing once its service account is deleted."""
    robot = as_token(kubectl, new_token(http, kubectl, "robot"), tmp_path)
    assert "forbidden" in robot.refused("get", "pods")
    kubectl("delete", "serviceaccount", "robot")
    assert "forbidden" not in robot.refused("get", "pods")


def test_token_for_another_audience(kubectl: Kubectl, http: Http) -> None:
    """A token that is meant for somebody else is no key to this server."""
    token = new_token(http, kubectl, "robot", audiences=["vault"])
    answer = http("GET", "/api", anonymous=True, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 401


def test_anonymous(http: Http) -> None:
    """Without credentials one learns that the server lives, and nothing else."""
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert http("GET", path, anonymous=True).status == 200
    answer = http("GET", "/api/v1/secrets", anonymous=True)
    assert answer.status == 403
    assert 'User "system:anonymous" cannot list resource "secrets"' in answer.document["message"]
