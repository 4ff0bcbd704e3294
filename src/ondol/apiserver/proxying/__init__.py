"""What is handed on by `pods/proxy`, `services/proxy` and `nodes/proxy`: where to, and changed in which way.

Pure; `subresources.proxy` asks it, and the other server is spoken with by the `Forwarder` port.

Sources: apimachinery's `util/proxy`, `ResourceLocation` in the registries of pods, services and nodes.
"""
