"""Admission policies: rules of the users' own, in CEL, by which writes are refused or changed in the server.

::

    definitions  what policies and their bindings say, and which of them may be about a kind
    parameters   the objects that a binding hands to its policy
    evaluation   what the expressions see of a write (`authorizing`: and of who may do what)
    validating   what a ValidatingAdmissionPolicy decides
    mutating     what a MutatingAdmissionPolicy changes
    dispatch     all of them for one write

Follows Kubernetes' `pkg/admission/plugin/policy`. The language is imported with the first policy.
"""

from __future__ import annotations

from ondol.apiserver.policies.dispatch import Policies

__all__ = ["Policies"]
