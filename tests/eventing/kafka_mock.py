"""A Kafka cluster in this process: the mock brokers of librdkafka, which speak the real protocol on loopback.

They are librdkafka's own C functions, called by ctypes: the Python package has no names for what breaks them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

_PRODUCER = 0
_ERROR_BYTES = 512
FETCH, OFFSET_COMMIT = 1, 8
"""Numbers of requests."""


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    [file] = folder.glob("librdkafka*.so*")
    library = ctypes.CDLL(str(file))
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        (
            "rd_kafka_conf_set",
            integer,
            [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
        ),
        ("rd_kafka_new", pointer, [integer, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_topic_create", integer, [pointer, ctypes.c_char_p, integer, integer]),
        ("rd_kafka_mock_broker_set_down", integer, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", integer, [pointer, ctypes.c_int32]),
        ("rd_kafka_destroy", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.rd_kafka_mock_push_request_errors_array.argtypes = [
        pointer,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    return library


class Brokers:
    """One broker, and what a test does with it."""

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library = library
        self._cluster = cluster
        self.server = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def fail(self, request: int, *codes: int) -> None:
        """Answer the next requests of this number with these errors of Kafka's."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(codes), array)

    def go_down(self) -> None:
        """Connections end, and no others come."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def come_up(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def write(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int = 0,
    ) -> None:
        """One record, once it is there."""
        producer = Producer({"bootstrap.servers": self.server})
        producer.produce(topic, value, key, partition, headers=list(headers))
        assert producer.flush(10) == 0

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """The offset that a group goes on from; negative if it has committed none."""
        reader = Consumer({"bootstrap.servers": self.server, "group.id": group})
        try:
            [place] = reader.committed([TopicPartition(topic, partition)], timeout=10)
        finally:
            reader.close()
        return int(place.offset)


@contextmanager
def brokers() -> Iterator[Brokers]:
    """A cluster of one broker, whose groups do not wait for further members."""
    library = _library()
    reason = ctypes.create_string_buffer(_ERROR_BYTES)
    configuration = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(configuration, b"log_level", b"0", reason, _ERROR_BYTES)
    client = library.rd_kafka_new(_PRODUCER, configuration, reason, _ERROR_BYTES)
    assert client, reason.value
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    try:
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        yield Brokers(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)
