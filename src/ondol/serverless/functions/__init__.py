"""Functions: a folder with code and a `func.yaml`, served as a Knative Service of one container.

`reading` and `writing` turn the file into a `model.Function` and back, `service` and `triggers` turn that
into API objects; `languages` says what can be built, `templates` is what a new function begins as, and
`runtimes` are the small servers that stand around a function's code. All of it is pure or package data:
`compose` builds, runs and deploys.
"""
