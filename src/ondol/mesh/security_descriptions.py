"""What `kubectl explain` says of the mesh's security kinds: a sentence a field, by its struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FOR: Final = {
    "selector": "The pods it is for, by their labels; without one, all of the namespace.",
    "targetRef": "The former way to name one of targetRefs.",
    "targetRefs": "What it is for instead: the pods behind Services, or of Gateways, of its namespace.",
}

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "WorkloadSelector": {"matchLabels": "Labels that the pods have, all of them."},
    "PolicyTargetReference": {
        "group": "The API group of the kind; empty for Service.",
        "kind": "Service, Gateway or GatewayClass.",
        "name": "Its name.",
        "namespace": "Must be empty: it is the object's own.",
    },
    "AuthorizationPolicySpec": {
        **_FOR,
        "action": "ALLOW (the default), DENY, AUDIT, or CUSTOM, by which a provider decides.",
        "rules": "When it holds: if one of these does. None: never, which for ALLOW closes the pods.",
        "provider": "Who decides, for CUSTOM.",
    },
    "ExtensionProvider": {"name": "As the mesh's configuration (ConfigMap istio-system/istio) has it."},
    "AuthorizationRule": {
        "from": "Who calls: one of these. None: anybody.",
        "to": "What is called: one of these. None: anything.",
        "when": "What else must be so: all of these.",
    },
    "RuleFrom": {"source": "Whoever fits all of it."},
    "RuleTo": {"operation": "Whatever fits all of it."},
    "Source": {
        "principals": "Identities by certificate, as cluster.local/ns/NAMESPACE/sa/ACCOUNT.",
        "notPrincipals": "Identities that it is not for.",
        "requestPrincipals": "Identities by token, as ISSUER/SUBJECT.",
        "notRequestPrincipals": "Identities by token that it is not for.",
        "namespaces": "Namespaces of callers, by certificate.",
        "notNamespaces": "Namespaces of callers that it is not for.",
        "serviceAccounts": "Service accounts of callers, as ACCOUNT or NAMESPACE/ACCOUNT.",
        "notServiceAccounts": "Service accounts of callers that it is not for.",
        "trustDomains": "Trust domains of callers, by certificate.",
        "notTrustDomains": "Trust domains of callers that it is not for.",
        "ipBlocks": "Addresses of connections, as 10.1.2.3 or 10.1.0.0/16.",
        "notIpBlocks": "Addresses of connections that it is not for.",
        "remoteIpBlocks": "Addresses of callers as proxies before tell them (X-Forwarded-For).",
        "notRemoteIpBlocks": "Such addresses that it is not for.",
    },
    "Operation": {
        "hosts": "Hosts, in either case; a port behind them does not matter.",
        "notHosts": "Hosts that it is not for.",
        "ports": "Ports of the pod.",
        "notPorts": "Ports that it is not for.",
        "methods": "Methods, such as GET.",
        "notMethods": "Methods that it is not for.",
        "paths": "Paths without their query, as /a, /a*, *.html or templates with {*} and {**}.",
        "notPaths": "Paths that it is not for.",
    },
    "Condition": {
        "key": "What is looked at, such as request.headers[x-user] or source.ip.",
        "values": "One of these.",
        "notValues": "None of these.",
    },
    "RequestAuthenticationSpec": {
        **_FOR,
        "jwtRules": "Whose tokens are believed. A wrong token is refused, a missing one is not.",
    },
    "JWTRule": {
        "issuer": "Who made the token: its claim iss.",
        "audiences": "For whom: one of these must be in its claim aud.",
        "jwksUri": "Where the issuer's public keys are.",
        "jwks_uri": "The former name of jwksUri.",
        "jwks": "The issuer's public keys themselves, as a JSON Web Key Set.",
        "fromHeaders": "Headers that may have the token; by default Authorization, after Bearer.",
        "fromParams": "Parameters of the query that may have it; by default access_token.",
        "fromCookies": "Cookies that may have it.",
        "outputPayloadToHeader": "A header that tells the application all claims, in base64.",
        "outputClaimToHeaders": "Headers that tell the application single claims.",
        "forwardOriginalToken": "Whether the application gets the token itself.",
        "timeout": "How long fetching the keys may take, 5s by default.",
        "spaceDelimitedClaims": "Claims that are lists of words, beside scope and permission.",
        "presence": "REQUIRED if a call without such a token is refused, too.",
    },
    "JWTHeader": {"name": "The header's name.", "prefix": "What stands before the token in it."},
    "ClaimToHeader": {"header": "The header's name.", "claim": "The claim's name."},
    "PeerAuthenticationSpec": {
        "selector": "The pods it is for, by their labels; without one, all of the namespace.",
        "mtls": "What their ports take.",
        "portLevelMtls": "What single ports of the pods take, by number.",
    },
    "MutualTLS": {
        "mode": "STRICT: mutual TLS only; PERMISSIVE: plain too; DISABLE: plain only; UNSET: as around it."
    },
}
