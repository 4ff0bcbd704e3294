"""The four ways to change part of an object: JSON patch, merge patch, strategic merge patch, apply.

All are pure functions of documents. They never change a document they were given; results share the
parts that did not change. The API server calls them between reading the live object and admission.
"""
