"""serviceaccounts/token: a token for a service account, on request."""

from __future__ import annotations

import contextlib

from ondol.api.objects import Resource
from ondol.apiserver import answers
from ondol.apiserver.admission import node_restriction
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.schemas import BuiltinSchema
from ondol.apiserver.served import Served
from ondol.base import errors

_TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
_SCHEMA = BuiltinSchema("io.k8s.api.authentication.v1.TokenRequest")


async def create(core: Core, request: Request, served: Served) -> Reply:
    del served
    if core.tokens is None:
        raise errors.Unavailable("this server was started without a key to sign service-account tokens with")
    document = await changing.read_document(core, request, _SCHEMA, _TOKEN_REQUEST)
    wanted = _SCHEMA.read({"spec": {}, **document})
    with contextlib.ExitStack() as held:
        context = core.context(request.user, request.warn, held)
        node_restriction.check_token(core, context, wanted, request.info.namespace, request.info.name)
    issued = core.tokens.request(wanted, request.info.namespace, request.info.name)
    return answers.document(request, issued, 201)
