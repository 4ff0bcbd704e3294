"""The API server alone, as a process: `python serve_api.py DATA_DIR PORT COMPACTION_INTERVAL_S`.

The end-to-end tests of the API start this, so that they need neither root nor a container runtime,
and may kill it. It prints `ready` once requests are answered; an expected error is one line on
standard error and exit status 1, as with the command line.
"""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import cast

import anyio
import yaml

from ondol import apiserver, store
from ondol.apiserver import listening, pki, server
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.compose.https_poster import HttpsPoster


async def _serve(data_dir: Path, port: int, compaction_interval_s: float) -> None:
    log = store.open_file(data_dir / "store.db")  # first: nothing is touched if another process has it
    clock = SystemClock()
    admin = pki.Client("admin", "ondol:admin", ("system:masters",))
    keys = pki.ensure(data_dir / "pki", clock=clock, clients=[admin])
    authority = keys.ca_file.read_bytes()
    document = pki.kubeconfig(f"https://127.0.0.1:{port}", authority, keys.client("admin"))
    pki.write_kubeconfig(data_dir / "kubeconfig", yaml.safe_dump(document).encode())
    app = apiserver.build(
        apiserver.ApiConfig(
            advertise_port=port,
            ca_certificate=authority.decode(),
            front_proxy=keys.front_proxy_ca_file.read_text(encoding="ascii"),
            compaction_interval_s=compaction_interval_s,
        ),
        log,
        clock,
        random.SystemRandom(),
        service_account_key=keys.service_account_key_file.read_bytes(),
        poster=HttpsPoster(),
    )
    config = server.ServeConfig(
        listen=(listening.Listen("127.0.0.1", port),),
        certificate_file=keys.server_certificate_file,
        key_file=keys.server_key_file,
        client_ca_file=keys.ca_file,
    )

    def started(_: object) -> None:
        print("ready", flush=True)  # noqa: T201 - the parent waits for it

    try:
        await server.serve(cast("server.Application", app), config, started=started)
    finally:
        log.close()


async def _serve_until_signal(data_dir: Path, port: int, compaction_interval_s: float) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(_serve, data_dir, port, compaction_interval_s)
            async for _ in signals:
                group.cancel_scope.cancel()
                return


def _one_line(group: BaseException) -> str:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    if isinstance(group, errors.OndolError):
        return f"error: {group}"
    raise group


if __name__ == "__main__":
    try:
        where, port, interval = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
        anyio.run(_serve_until_signal, where, port, interval, backend_options={"use_uvloop": True})
    except (errors.OndolError, BaseExceptionGroup) as failure:
        sys.exit(_one_line(failure))
