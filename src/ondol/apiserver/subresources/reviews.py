"""Reviews: who a token is, and what someone may do. Answered from the body, stored nowhere."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object
from ondol.apiserver import answers
from ondol.apiserver.auth import reviews
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.base import errors

RESOURCES: Final = (
    "localsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "subjectaccessreviews.authorization.k8s.io",
    "tokenreviews.authentication.k8s.io",
)


async def create(core: Core, request: Request, served: Served) -> Reply:
    if answers.accepted_by(request).form:
        raise errors.NotAcceptable(f"{served.resource.kind} has no other form than its own")
    document = await changing.read_typed(core, request, served.resource, served.schema)
    if served.resource.plural == "tokenreviews" and core.bearers is not None:
        await core.bearers.learn((document.get("spec") or {}).get("token") or "")
    return answers.document(request, _answer(core, request, document, served), 201)


def _answer(core: Core, request: Request, document: Object, served: Served) -> Object:
    resource = served.resource.plural
    if resource == "tokenreviews":
        if core.bearers is None:
            raise errors.Unavailable("this server was started without a key to check tokens with")
        return core.bearers.review(document)
    if resource == "selfsubjectreviews":
        return reviews.self_subject_review(document, request.user, core.clock.now())
    if core.rbac is None:
        raise errors.Unavailable("access reviews need the authorizer that reads RBAC objects")
    match resource:
        case "subjectaccessreviews":
            return reviews.subject_access_review(document, core.rbac)
        case "localsubjectaccessreviews":
            return reviews.local_subject_access_review(document, request.info.namespace, core.rbac)
        case "selfsubjectaccessreviews":
            return reviews.self_subject_access_review(document, request.user, core.rbac)
    return reviews.self_subject_rules_review(document, request.user, core.rbac)
