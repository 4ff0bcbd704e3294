"""What every request passes: identity, rights, limits, and an answer whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ondol import apiserver, store
from ondol.apiserver import bootstrap, exchange, housekeeping, routing, writing
from ondol.base import errors
from ondol.base.database import DiskFull

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def key() -> bytes:
    """A key to sign service-account tokens with."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def test_without_rights_nothing_is_answered(api: Any) -> None:
    """The refusal says who may not do what; reading of health and version is open to everybody."""
    joe = api.as_("joe", "devs")
    refused = await joe.get(CMS)
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == (
        'configmaps is forbidden: User "joe" cannot list resource "configmaps" in API group "" in the '
        'namespace "default"'
    )
    stranger = api.as_("")
    assert (await stranger.get(CMS)).status == 403
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert (await stranger.get(path)).status == 200
    assert (await stranger.get("/metrics")).status == 403


async def test_a_new_binding_counts_at_once(api: Any, config_map: Make) -> None:
    """RBAC objects are read as they are written: granted and taken back without delay."""
    joe = api.as_("joe")
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]
    binding = {"metadata": {"name": "joe"}, "roleRef": reference, "subjects": subjects}
    assert (await api.post(path, binding)).status == 201
    assert (await joe.post(CMS, config_map("a"))).status == 201
    assert (await joe.get("/api/v1/namespaces/kube-system/configmaps")).status == 403
    await api.delete(f"{path}/joe")
    assert (await joe.get(CMS)).status == 403


async def test_nobody_grants_what_they_do_not_hold(api: Any) -> None:
    """An editor of roles cannot make themselves an administrator."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["*"]}]
    await api.post(f"{rbac}/namespaces/default/roles", {"metadata": {"name": "r"}, "rules": rules[:0]})
    role = {"metadata": {"name": "role-editor"}, "rules": [{**rules[0], "verbs": ["create", "update"]}]}
    await api.post(f"{rbac}/namespaces/default/roles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "role-editor"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]
    binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects}
    await api.post(f"{rbac}/namespaces/default/rolebindings", binding)
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    greedy = {"metadata": {"name": "greedy"}, "rules": everything}
    refused = await api.as_("joe").post(f"{rbac}/namespaces/default/roles", greedy)
    assert refused.status == 403
    assert "attempting to grant RBAC permissions not currently held" in refused.json["message"]


async def test_tokens_are_issued_and_believed(start: Any, key: bytes, config_map: Make) -> None:
    """A TokenRequest gives a token that is its account; a false one is nobody."""
    async with start(service_account_key=key) as api:
        path = "/api/v1/namespaces/default/serviceaccounts/default/token"
        issued = await api.post(path, {"spec": {"expirationSeconds": 3600}})
        assert issued.status == 201, issued.json
        token = issued.json["status"]["token"]
        nobody = api.as_("")
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        who = await nobody(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            review,
            {"authorization": f"Bearer {token}"},
        )
        assert who.json["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
        refused = await nobody.get(CMS, authorization="Bearer nonsense")
        assert (refused.status, refused.json["reason"]) == (401, "Unauthorized")
        seen = await api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
        assert seen.json["status"]["authenticated"] is True
        assert (await nobody.get("/openid/v1/jwks")).status in (200, 403)


async def test_without_a_key_there_are_no_tokens(api: Any) -> None:
    """Said plainly, not with a token nobody would believe."""
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    assert (await api.post(path, {"spec": {}})).status == 503
    assert (await api.as_("").get(CMS, authorization="Bearer x")).status == 401


async def test_access_reviews_answer_without_doing(api: Any) -> None:
    """`kubectl auth can-i` asks, for oneself and for others."""
    attributes = {"verb": "list", "resource": "pods", "namespace": "default"}
    path = "/apis/authorization.k8s.io/v1"
    own = await api.post(f"{path}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": attributes}})
    assert own.json["status"]["allowed"] is True
    spec = {"user": "joe", "resourceAttributes": attributes}
    other = await api.post(f"{path}/subjectaccessreviews", {"spec": spec})
    assert other.json["status"]["allowed"] is False
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io", "content-type": "application/json"}
    table = await api("POST", f"{path}/selfsubjectaccessreviews", {"spec": spec}, accept)
    assert table.status == 406


async def test_impersonation_needs_its_right(api: Any) -> None:
    """An administrator may act as joe and then has joe's rights; joe may not act as anyone."""
    acting = await api.get(CMS, impersonate_user="joe")
    assert 'User "joe" cannot list' in acting.json["message"]
    refused = await api.as_("joe").get(CMS, impersonate_user="admin")
    assert 'User "joe" cannot impersonate resource "users"' in refused.json["message"]


async def test_whatever_goes_wrong_has_a_status(
    api: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of our own is a 500 with an id to find it by, and the server goes on."""

    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(routing, "handle", broken)
        failed = await api.get(CMS)
    assert (failed.status, failed.json["reason"]) == (500, "InternalError")
    assert failed.headers["audit-id"] in failed.json["message"]
    assert "request_failed" in "".join(capsys.readouterr())
    assert (await api.get(CMS)).status == 200


async def test_too_many_at_once_are_turned_away(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limits clients are told to come again; watches do not count."""
    config = apiserver.ApiConfig(reads_in_flight_max=2)
    async with start(config=config) as api:
        real, gate, waiting = routing.handle, anyio.Event(), 0

        async def slow(core: Any, request: Any) -> Any:
            nonlocal waiting
            waiting += 1
            await gate.wait()
            return await real(core, request)

        monkeypatch.setattr(routing, "handle", slow)
        async with anyio.create_task_group() as group:
            group.start_soon(api.get, CMS)
            group.start_soon(api.get, CMS)
            await anyio.wait_all_tasks_blocked()
            turned = await api.get(CMS)
            assert (turned.status, turned.headers["retry-after"]) == (429, "1")
            assert turned.json["details"]["retryAfterSeconds"] == 1
            gate.set()
        assert (await api.get(CMS)).status == 200


class _Idle:
    """A client that asks and, from some message of the answer on, does not read."""

    def __init__(self, reads: int) -> None:
        self._reads = reads
        self.messages: list[dict[str, Any]] = []
        self.stuck = anyio.Event()

    async def ask(self, app: Any, path: str, **headers: str) -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "ondol.identity": {"name": "admin", "groups": ["system:masters"]},
        }
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def _send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if len(self.messages) > self._reads:
            self.stuck.set()
            await anyio.sleep_forever()

    @property
    def sent(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def _fill(api: Any, config_map: Make) -> None:
    """Two megabytes to list."""
    for number in range(20):
        await api.post(CMS, config_map(f"a{number}", {"k": "x" * 100_000}))


@pytest.mark.parametrize("accept", ["application/json", "application/yaml"])
async def test_who_does_not_read_a_long_answer_costs_little(
    start: Any, config_map: Make, accept: str
) -> None:
    """It is given a piece, holds no place among the requests, and is cut off when its time is over."""
    async with start() as api:
        await _fill(api, config_map)
        eager = _Idle(reads=1_000)
        await eager.ask(api.app, CMS, accept=accept)
        assert len(eager.sent) > 2_000_000
        assert max(len(message.get("body", b"")) for message in eager.messages) < 2 * exchange.PIECE_BYTES
        assert eager.messages[-1].get("more_body", False) is False
    config = apiserver.ApiConfig(reads_in_flight_max=1)
    async with start(config=config) as api:
        await _fill(api, config_map)
        idle = _Idle(reads=1)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                await idle.ask(api.app, CMS, accept=accept)

            group.start_soon(ask)
            await idle.stuck.wait()
            assert (await api.get(f"{CMS}/a1")).status == 200, "there is a place for others"
            await api.clock.advance(60.0)
        assert idle.messages[-1].get("more_body"), (
            "cut off in the middle, so that it is not taken for the end"
        )


async def test_a_write_that_hangs_ends_in_a_timeout(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told that it does not know the outcome."""
    async with start() as api:

        async def stuck(*_: Any) -> Any:
            await anyio.sleep_forever()

        monkeypatch.setattr(routing, "handle", stuck)
        late = await api.overdue(api.post(CMS, {"metadata": {"name": "a"}}))
        assert (late.status, late.json["reason"]) == (504, "Timeout")


async def test_a_full_disk_reaches_the_client(api: Any, config_map: Make) -> None:
    """503 with the reason, at once: no header has clients wait; nothing is visible of the write."""
    connection = api.store._database._connection
    pages = connection.value("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count={pages}")
    refused = await api.post(CMS, config_map("a", {"k": "v" * 200_000}))
    assert (refused.status, refused.json["reason"]) == (503, "ServiceUnavailable")
    assert "the disk is full" in refused.json["message"]
    assert "retry-after" not in refused.headers
    assert "retryAfterSeconds" not in (refused.json.get("details") or {})
    connection.execute("PRAGMA max_page_count=1000000")
    assert (await api.get(f"{CMS}/a")).status == 404
    assert (await api.post(CMS, config_map("a"))).status == 201


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/none.example/v1/things", 404),
        ("GET", "/apis/apps/v2/deployments", 404),
        ("GET", "/nothing/here", 404),
        ("POST", "/version", 405),
        ("POST", f"{CMS}/a", 405),
        ("PUT", CMS, 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("GET", f"{CMS}/a/status", 404),
        ("GET", f"{CMS}/a/exec", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/binding", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("POST", "/api/v1/configmaps", 404),
        ("BREW", CMS, 405),
    ],
)
async def test_paths_and_methods_that_are_not_served(api: Any, method: str, path: str, code: int) -> None:
    """404 for what is not there, 405 for what cannot be done to it."""
    answer = await api(method, path, {} if method in ("POST", "PUT") else None)
    assert answer.status == code, answer.body
    assert answer.json["kind"] == "Status"


async def test_warnings_are_cut_where_kubernetes_cuts_them(api: Any) -> None:
    """Clients bound the headers they read."""
    unknown = {f"field{number:03}" + "x" * 100: 1 for number in range(200)}
    answer = await api.post(CMS, {"metadata": {"name": "a"}, **unknown})
    assert answer.status == 201
    assert 30 < len(answer.warnings) < 60


async def test_a_background_task_that_fails_is_begun_anew(
    start: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken turn of the housekeeping neither ends the server nor the housekeeping."""
    runs = 0

    async def failing(_: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ZeroDivisionError
        await anyio.sleep_forever()

    monkeypatch.setattr(housekeeping, "_expire_events", failing)
    async with start() as api:
        await api.settle()
        await api.clock.advance(2)
        assert runs == 2
        assert (await api.get(CMS)).status == 200
    assert "background_task_failed" in "".join(capsys.readouterr())


async def test_what_cannot_be_made_sure_of_is_told_once(
    start: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk is one line, not one a second; once there is space, all is made sure of again."""
    runs: list[float] = []
    is_full = False
    run = bootstrap.run

    async def on_a_full_disk(core: Any) -> None:
        runs.append(core.clock.now())
        if is_full:
            raise errors.Unavailable("the disk is full")
        await run(core)

    monkeypatch.setattr(bootstrap, "run", on_a_full_disk)
    async with start() as api:
        await api.settle()
        is_full = True
        begun = len(runs)
        assert (await api.delete("/api/v1/namespaces/default/services/kubernetes")).status == 200
        for _ in range(60):
            await api.clock.advance(1)
        assert 3 <= len(runs) - begun <= 8
        is_full = False
        for _ in range(31):
            await api.clock.advance(1)
        assert (await api.get("/api/v1/namespaces/default/services/kubernetes")).status == 200
    logged = "".join(capsys.readouterr())
    assert logged.count("bootstrap_failed") == 1
    assert logged.count("bootstrap_recovered") == 1
    assert "Traceback" not in logged


async def test_a_start_on_a_full_disk_serves_what_is_stored(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier start did not come to is made when there is space; a first start says what it lacks."""
    full = DiskFull("the disk is full")

    async def on_a_full_disk(*_: Any) -> None:
        raise full

    async def nothing(*_: Any) -> None:
        return

    log = store.open_memory()
    with monkeypatch.context() as patched, pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        patched.setattr(bootstrap, "run", on_a_full_disk)
        async with start(log):
            pass
    schema = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/global-default"
    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "_own_flows", nothing)
        async with start(log):
            pass
    with monkeypatch.context() as patched:
        patched.setattr(writing.Writes, "create", on_a_full_disk)
        async with start(log) as api:
            assert (await api.get("/api/v1/namespaces/default")).status == 200
            assert (await api.get(schema)).status == 404
    log.close()


async def test_every_answer_has_its_id_and_is_not_cached(api: Any) -> None:
    """The caller's own id is kept, so that one id runs the whole way."""
    answer = await api.get(CMS)
    assert len(answer.headers["audit-id"]) == 36
    assert answer.headers["cache-control"] == "no-cache, private"
    assert (await api.get(CMS, audit_id="mine")).headers["audit-id"] == "mine"


async def test_metrics_count_requests(api: Any) -> None:
    """By verb, resource and code, with latencies."""
    await api.get(CMS)
    text = (await api.get("/metrics")).body.decode()
    assert 'apiserver_request_total{code="200",group="",resource="configmaps",verb="LIST"} 1.0' in text
    assert 'apiserver_request_duration_seconds_count{group="",resource="configmaps",verb="LIST"} 1.0' in text


async def test_head_has_no_body(api: Any) -> None:
    """As HTTP wants it."""
    answer = await api("HEAD", "/healthz")
    assert (answer.status, answer.body) == (200, b"")
