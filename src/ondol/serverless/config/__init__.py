"""Serving's own configuration: the ConfigMaps `config-*` of the namespace `knative-serving`, read live.

Pure parts say what each key means; `live` keeps a controller process up to date, `rules` lets the API
server refuse what could not be read and fill in by what holds now.
"""
