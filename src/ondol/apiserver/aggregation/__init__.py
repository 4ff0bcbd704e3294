"""Groups and versions that other API servers answer for, as their APIServices say.

    remotes       which those are now: all that a request is looked up in
    requests      a request handed on, and the server's own questions
    controller    follows the APIServices, the Services they name and those Services' endpoints
    keeper        one APIService: asks whether its server is there and what it serves, and writes that
    availability  the condition that says so, pure
    discovery     what all of them serve, in one document, pure
    descriptions  the OpenAPI of all of them likewise, pure

Only `remotes` and `controller` are imported by a server without such APIServices.

Sources: kube-aggregator's `handler_proxy`, `handler_apis`, `handler_discovery`, `remote_available_controller`
and `openapi/aggregator`.
"""
