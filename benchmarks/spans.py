"""Where should spans be kept? SQLite, as `ondol.observe.traces.store` does, beside DuckDB.

    python benchmarks/spans.py [--json FILE]

Takes less than twenty seconds. DuckDB's column is left out where it is not installed. The DuckDB
table has the same columns and the same key, and a batch is one transaction, as with SQLite.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ondol.base import protowire
from ondol.observe.traces import otlp_protobuf
from ondol.observe.traces.spans import Span
from ondol.observe.traces.spans import row as stored
from ondol.observe.traces.store import SpanStore

SPANS = 200_000
SPANS_A_TRACE = 8
BATCH = 100
INSERTING_S = 2.0
LOOKUPS = 200
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835
SERVICES = ("front", "catalog", "reviews", "cart", "thumbnail")
EXPORTED = 192
PROXY = {
    "component": "proxy",
    "http.protocol": "HTTP/1.1",
    "downstream_cluster": "-",
    "user_agent": "shop/1.0",
    "request_size": "0",
    "response_flags": "-",
    "istio.canonical_revision": "v1",
    "istio.namespace": "shop",
}
_DUCKDB_TABLE = """
CREATE TABLE spans (
  trace_id VARCHAR NOT NULL, span_id VARCHAR NOT NULL, parent_id VARCHAR NOT NULL, service VARCHAR NOT NULL,
  name VARCHAR NOT NULL, kind VARCHAR NOT NULL, start_ns BIGINT NOT NULL, duration_ns BIGINT NOT NULL,
  error BOOLEAN NOT NULL, attributes VARCHAR NOT NULL, PRIMARY KEY (trace_id, span_id)
)
"""
_AGGREGATE = "SELECT service, count(*), sum(duration_ns), max(duration_ns) FROM spans GROUP BY service"
_CHILD = """
import pathlib, sys, time
def resident():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmRSS:"))
    return int(line.split()[1])
before, started = resident(), time.perf_counter()
import {module}
db = {module}.connect(sys.argv[1])
{settings}
db.execute("CREATE TABLE spans (trace_id VARCHAR, span_id VARCHAR, PRIMARY KEY (trace_id, span_id))")
db.execute("INSERT INTO spans VALUES ('a', 'b')")
db.execute("SELECT * FROM spans").fetchall()
print(resident() - before, time.perf_counter() - started)
"""


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engines: dict[str, Callable[[Path], dict[str, float]]] = {"sqlite": measure_sqlite}
    if importlib.util.find_spec("duckdb") is not None:
        engines["duckdb"] = measure_duckdb
    figures = {}
    for name, measure in engines.items():
        folder = Path(tempfile.mkdtemp(prefix="ondol-spans-"))
        try:
            figures[name] = {**start_cost(name, folder), **measure(folder)}
        finally:
            shutil.rmtree(folder)
    print_table(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def print_table(figures: dict[str, dict[str, float]]) -> None:
    """One line a measure; the last column is DuckDB's value over SQLite's."""
    names = list(figures)
    print("| measure | " + " | ".join(names) + (" | ratio |" if len(names) > 1 else " |"))
    print("|" + "---|" * (len(names) + 1 + (len(names) > 1)))
    for measure in figures[names[0]]:
        values = [figures[name][measure] for name in names if measure in figures[name]]
        cells = [f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in values]
        ratio = [f"{values[1] / values[0]:.3g}"] if len(values) > 1 else [""] * (len(names) - len(values)) * 2
        print("| " + " | ".join([measure, *cells, *ratio]) + " |")


def start_cost(name: str, folder: Path) -> dict[str, float]:
    """What a fresh process pays before it can keep anything: the median of three."""
    module = {"sqlite": "sqlite3"}.get(name, name)
    settings = "db.execute('SET threads = 1')" if name == "duckdb" else ""
    program = _CHILD.format(module=module, settings=settings)
    costs = []
    for attempt in range(3):
        command = [sys.executable, "-c", program, str(folder / f"start{attempt}.db")]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        memory_kb, seconds = output.split()
        costs.append((float(memory_kb) / 1024, float(seconds) * 1000))
    return {
        "import and connect, MB resident": statistics.median(c[0] for c in costs),
        "import and connect, ms": statistics.median(c[1] for c in costs),
    }


def measure_sqlite(folder: Path) -> dict[str, float]:
    """The store as it is."""
    store = SpanStore(folder / "traces.db")
    rate = insert_rate(lambda batch: store.add(map(stored, batch)))
    store.close()
    store = SpanStore(folder / "full.db")
    for batch in batches(SPANS, 5_000):
        store.add(map(stored, batch))
    lookup_ms = median_ms(store.trace)
    started = time.perf_counter()
    store._db.rows(_AGGREGATE)  # noqa: SLF001 - no query of the store's own aggregates
    aggregate_ms = (time.perf_counter() - started) * 1000
    store._db.checkpoint()  # noqa: SLF001 - so that one file holds it all
    store.close()
    return {
        **results(rate, lookup_ms, aggregate_ms, folder / "full.db"),
        **export_cost(SpanStore(folder / "exports.db")),
    }


def export_cost(store: SpanStore) -> dict[str, float]:
    """Processor time of reading exports as Envoy sends them, and of keeping what was read."""
    exports = [export(batch) for batch in batches(40_000, EXPORTED)]
    count = len(exports) * EXPORTED
    began = time.process_time()
    decoded = [list(otlp_protobuf.rows(body)) for body in exports]
    read = time.process_time()
    for rows in decoded:
        store.add(rows)
    committed = time.process_time()
    store.close()
    return {
        f"reading exports of {EXPORTED}, CPU µs a span": (read - began) / count * 1e6,
        "keeping them, CPU µs a span": (committed - read) / count * 1e6,
    }


def export(batch: Sequence[Span]) -> bytes:
    """The spans as an `ExportTraceServiceRequest`, one resource each service."""
    by_service: dict[str, list[bytes]] = {}
    for each in batch:
        by_service.setdefault(each.service, []).append(protowire.put_bytes(2, encoded(each)))
    return b"".join(
        protowire.put_bytes(
            1,
            protowire.put_bytes(1, protowire.put_bytes(1, text_pair("service.name", service)))
            + protowire.put_bytes(2, b"".join(members)),
        )
        for service, members in by_service.items()
    )


def encoded(each: Span) -> bytes:
    parent = protowire.put_bytes(4, bytes.fromhex(each.parent_id)) if each.parent_id else b""
    times = struct.pack("<BQBQ", 7 << 3 | 1, each.start_ns, 8 << 3 | 1, each.end_ns)
    attributes = {
        **each.attributes,
        **PROXY,
        "guid:x-request-id": f"{each.trace_id[:8]}-{each.trace_id[8:12]}",
        "response_size": str(each.duration_ns % 9000),
    }
    return (
        protowire.put_bytes(1, bytes.fromhex(each.trace_id))
        + protowire.put_bytes(2, bytes.fromhex(each.span_id))
        + parent
        + protowire.put_bytes(5, each.name.encode())
        + protowire.put_number(6, 3)
        + times
        + b"".join(protowire.put_bytes(9, text_pair(key, value)) for key, value in attributes.items())
    )


def text_pair(key: str, value: str) -> bytes:
    text = protowire.put_bytes(1, value.encode())
    return protowire.put_bytes(1, key.encode()) + protowire.put_bytes(2, text)


def measure_duckdb(folder: Path) -> dict[str, float]:
    """The same table in DuckDB, with one thread, as a part with a small budget would run it."""
    import duckdb  # noqa: PLC0415 - may not be installed

    def opened(name: str) -> Any:
        db = duckdb.connect(str(folder / name))
        db.execute("SET threads = 1")
        db.execute(_DUCKDB_TABLE)
        return db

    db = opened("traces.duckdb")
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * BATCH)

    def add(spans: Sequence[Span]) -> None:  # one statement a batch: many times faster than executemany
        db.execute("BEGIN")
        db.execute(f"INSERT OR REPLACE INTO spans VALUES {places}", [v for s in spans for v in row(s)])  # noqa: S608 - fixed words
        db.execute("COMMIT")

    rate = insert_rate(add)
    db.close()
    db = opened("full.duckdb")
    file = folder / "spans.csv"
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows(row(span) for batch in batches(SPANS, 5_000) for span in batch)
    db.execute(f"COPY spans FROM '{file}' (FORMAT csv, NULLSTR '-')")
    columns = "trace_id, span_id, parent_id, service, name, kind, start_ns, duration_ns, error, attributes"
    query = f"SELECT {columns} FROM spans WHERE trace_id = ? ORDER BY start_ns, span_id"  # noqa: S608 - fixed words

    def trace(trace_id: str) -> list[Span]:
        return [span(record) for record in db.execute(query, [trace_id]).fetchall()]

    lookup_ms = median_ms(trace)
    started = time.perf_counter()
    db.execute(_AGGREGATE).fetchall()
    aggregate_ms = (time.perf_counter() - started) * 1000
    db.execute("CHECKPOINT")
    db.close()
    return results(rate, lookup_ms, aggregate_ms, folder / "full.duckdb")


def results(rate: float, lookup_ms: float, aggregate_ms: float, file: Path) -> dict[str, float]:
    return {
        f"spans kept a second, batches of {BATCH}": rate,
        f"one trace among {SPANS:,} spans, median ms": lookup_ms,
        f"sums by service over {SPANS:,} spans, ms": aggregate_ms,
        f"file of {SPANS:,} spans, MB": file.stat().st_size / (1 << 20),
    }


def insert_rate(add: Callable[[Sequence[Span]], Any]) -> float:
    """Spans a second over a bounded time, each batch durable as the engine does it."""
    prepared = list(batches(40_000, BATCH))
    inserted = 0
    started = time.perf_counter()
    for batch in prepared:
        add(batch)
        inserted += len(batch)
        if time.perf_counter() - started > INSERTING_S:
            break
    return inserted / (time.perf_counter() - started)


def median_ms(trace: Callable[[str], list[Span]]) -> float:
    """How long one trace takes to find; every one asked for exists."""
    rng = random.Random(7)
    times = []
    for _ in range(LOOKUPS):
        id_ = trace_id(rng.randrange(SPANS // SPANS_A_TRACE))
        started = time.perf_counter()
        spans = trace(id_)
        times.append((time.perf_counter() - started) * 1000)
        assert len(spans) == SPANS_A_TRACE
    return statistics.median(times)


def batches(count: int, size: int) -> Iterator[list[Span]]:
    """Spans as the proxy sends them: traces of one request through the shop."""
    rng = random.Random(1)
    batch: list[Span] = []
    for number in range(count):
        batch.append(random_span(number, rng))
        if len(batch) == size:
            yield batch
            batch = []


def random_span(number: int, rng: random.Random) -> Span:
    service = SERVICES[number % len(SERVICES)]
    return Span(
        trace_id=trace_id(number // SPANS_A_TRACE),
        span_id=f"{number:016x}",
        parent_id="" if number % SPANS_A_TRACE == 0 else f"{number - 1:016x}",
        service=service,
        name=f"{service}.shop.svc.cluster.local:80/*",
        kind="client",
        start_ns=1_700_000_000_000_000_000 + number * 100_000,
        duration_ns=rng.randrange(200_000, 40_000_000),
        error=rng.random() < 0.01,
        attributes={
            "http.method": "GET",
            "http.url": f"http://{service}/products/{rng.randrange(100)}",
            "http.status_code": "200",
            "upstream_cluster.name": f"outbound|80|v1|{service}.shop.svc.cluster.local",
            "node_id": "ondol",
        },
    )


def trace_id(number: int) -> str:
    """Spread as random ids are, and the same on each run."""
    return f"{number * _SPREAD % (1 << 128):032x}"


def row(span: Span) -> tuple[Any, ...]:
    return (
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.service,
        span.name,
        span.kind,
        span.start_ns,
        span.duration_ns,
        span.error,
        json.dumps(span.attributes),
    )


def span(record: Sequence[Any]) -> Span:
    fields = dict(zip(Span.__struct_fields__, record, strict=True))
    return Span(**{**fields, "attributes": json.loads(fields["attributes"])})


if __name__ == "__main__":
    main()
