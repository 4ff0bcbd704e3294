"""Admission: what may complete a write, refuse it or warn of it beyond what its kind's schema says.

`chain` runs it; `builtin` lists the plug-ins that look at several kinds. Those of one kind stand in the
kind's registration (`apiserver.kinds`), and what is asked outside of this process comes by the port
`ports.Admission`.
"""
