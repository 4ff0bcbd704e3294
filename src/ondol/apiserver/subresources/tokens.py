"""serviceaccounts/token: a token for a service account, on request."""

from __future__ import annotations

from ondol.api.objects import Resource
from ondol.apiserver import answers, schemas
from ondol.apiserver.admission import node_restriction
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.base import errors

_TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")


async def create(core: Core, request: Request, served: Served) -> Reply:
    del served
    if core.tokens is None:
        raise errors.Unavailable("this server was started without a key to sign service-account tokens with")
    document = await changing.read_document(core, request, schemas.TOKEN_REQUEST, _TOKEN_REQUEST)
    token_request = schemas.TOKEN_REQUEST.read({"spec": {}, **document})
    with core.reservations.begin() as reserved:
        context = core.context(request.user, request.warn, reserved)
        parts = core.admission.parts
        node_restriction.check_token(parts, context, token_request, request.info.namespace, request.info.name)
    issued = core.tokens.request(token_request, request.info.namespace, request.info.name)
    return answers.document(request, issued, 201)
