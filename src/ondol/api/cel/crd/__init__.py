"""Rules of custom resources: `x-kubernetes-validations`.

`definitions` says what is wrong with the rules of a definition; `validation` holds objects to them.
"""
