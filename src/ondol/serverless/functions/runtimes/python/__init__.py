"""Serves one Python function over HTTP/1.1, by the contract of `func-python`; standard library only.

What is imported decides how soon a function answers: nothing here imports `asyncio`, `logging`, `http` or
`email`, and no module does anything when it is imported. `asyncio` comes into play when the function's code
imports it (see `engine`). A process that forks instances imports this package and the function's modules,
and calls `serving.serve(sockets, application)` in the child: until then there is one thread and no
open file.

In an image the package is called `ondol_function`; here it is part of `ondol` so that it is tested like it.
"""
