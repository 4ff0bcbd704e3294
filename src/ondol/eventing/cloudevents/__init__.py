"""CloudEvents 1.0: the event as a value, and how it travels by HTTP and in JSON. Pure.

The data plane decodes each request with `http`, hands the `event.Event` about, and encodes it for each
delivery. An event is passed on as it came: attributes keep the strings they arrived with, data its bytes.
"""
