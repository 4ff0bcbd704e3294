"""EventPolicies: who may send events to whom. Only where tokens are asked for (`authentication-oidc`)."""

from ondol.eventing.policies.decision import Decision, account_subject, allows, decision

__all__ = ["Decision", "account_subject", "allows", "decision"]
