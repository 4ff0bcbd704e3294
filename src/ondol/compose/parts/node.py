"""The part `node`: the agent that runs this machine's pods, their images, network and names."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from ondol.base import comma_list, errors, name_servers
from ondol.compose import addresses, credentials
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings


def part(instance: Instance, settings: Settings) -> Part:
    return Part(
        "node",
        # uvloop leaves copies of a child's pipes open in the child, and a container's shim outlives us.
        process.runner(main, instance, settings, fast_loop=False),
        silence_max_s=process.SILENCE_MAX_S,
        address=addresses.unix(instance, "node"),
        idle_memory_mib=40,
    )


async def main(context: Context) -> None:
    from ondol import node
    from ondol.compose import exposition, registry
    from ondol.compose.image_source import RegistrySource
    from ondol.node import agent  # noqa: F401 - loaded here, while the API server starts, not in `run`

    client, requests = await process.connected(context, "node")
    provisioner, _ = await process.connected(context, credentials.PROVISIONER)
    agent_config = config(context.instance, context.settings)
    try:
        async with (
            exposition.exposed(context.instance, "node", requests.collect) as page,
            registry.served(context.settings, context.clock),
        ):
            images = RegistrySource(context.settings)
            run = partial(
                node.run,
                agent_config,
                client,
                context.clock,
                images=images,
                page=page,
                provisioner=provisioner,
                listeners=context.notify.listeners,
            )
            await process.serve(run, context.notify)
    except* OSError as group:
        error = process.first_error(group)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise errors.HostError(
                f"port {addresses.DNS_PORT} of {agent_config.host_ip} is in use",
                remedy=f"stop what listens there: ss -lntup src {agent_config.host_ip}",
            ) from error
        raise


def config(instance: Instance, settings: Settings) -> Any:
    """The agent's `NodeConfig`; `down` needs it too, to undo what the agent did."""
    from ondol import node
    from ondol.compose import registry

    resolvers = name_servers.parse(settings.dns_servers)
    return node.NodeConfig(
        instance=instance.id,
        name=credentials.node_name(settings),
        data_dir=instance.data_dir,
        host_ip=instance.bridge_address,
        load_balancer_address=settings.load_balancer_address,
        pod_cidr=instance.pod_cidr,
        service_cidr=instance.service_cidr,
        run_root=instance.run_dir.parent,
        reserved_ports=addresses.reserved_ports(instance) | registry.reserved_ports(settings),
        api_token=credentials.node_token(instance),
        runtime=settings.runtime,
        pod_pids_limit=settings.pod_pids_limit,
        allowed_unsafe_sysctls=comma_list.items(settings.allowed_unsafe_sysctls),
        max_pods=settings.max_pods,
        eviction_hard=settings.eviction_hard,
        eviction_transition_s=settings.eviction_transition_s,
        image_collection=node.Policy(settings.image_gc_high_percent, settings.image_gc_low_percent),
        restart_backoff=node.restart_backoff(settings.restart_backoff_max_s),
        drain_s=settings.drain_s,
        upstream_dns=tuple(resolvers.servers),
        stub_domains=resolvers.stubs,
    )


def remove_pods(instance: Instance, settings: Settings) -> None:
    """Stop every container of the instance and undo what it did to the machine's network."""
    from ondol import node

    node.cleanup(config(instance, settings))
