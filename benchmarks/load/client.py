"""Asks at a steady rate over kept-open connections and prints the latencies' percentiles as JSON.

A request is due at its time whether or not earlier ones were answered; its latency counts from the
time it was due, so that a stall is seen in full (no coordinated omission).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time

HOST = os.environ["TARGET_HOST"]
PORT = int(os.environ.get("TARGET_PORT", "80"))
RATE = float(os.environ.get("RATE", "1000"))
SECONDS = float(os.environ.get("SECONDS", "10"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "8"))
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def _connect() -> socket.socket:
    for _ in range(200):
        try:
            connection = socket.create_connection((HOST, PORT), timeout=5)
        except OSError:
            time.sleep(0.05)
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise SystemExit(f"{HOST}:{PORT} does not answer")


def _ask(connection: socket.socket) -> bool:
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(b"ok\n"):
        data = connection.recv(4096)
        if not data:
            return False
        received += data
    return received.startswith(b"HTTP/1.1 200")


def _run(number: int, began: float, latencies: list[float], failures: list[int]) -> None:
    connection = _connect()
    for _ in range(20):
        _ask(connection)
    step = CONNECTIONS / RATE
    for turn in range(int(SECONDS / step)):
        due = began + number / RATE + turn * step
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        try:
            good = _ask(connection)
        except OSError:
            good = False
        if good:
            latencies.append(time.perf_counter() - due)
        else:
            failures.append(1)
            connection.close()
            connection = _connect()


def main() -> None:
    began = time.perf_counter() + 1.0
    latencies: list[float] = []
    failures: list[int] = []
    threads = [
        threading.Thread(target=_run, args=(n, began, latencies, failures)) for n in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()

    def percentile_ms(share: float) -> float:
        return round(latencies[min(int(share * len(latencies)), len(latencies) - 1)] * 1000, 3)

    report = {
        "requests": len(latencies),
        "failed": len(failures),
        "p50_ms": percentile_ms(0.50),
        "p90_ms": percentile_ms(0.90),
        "p99_ms": percentile_ms(0.99),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
