"""The journal on a real nats-server: what it keeps, and how it fares when the server or the disk does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from tests.eventing.plane_rig import Server, connected, eventually, small_disk, until

from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.eventing import engine
from ondol.eventing.journal import wire
from ondol.eventing.journal.jetstream import JetStream
from ondol.eventing.journal.port import ACK_WAIT_S, ConsumerConfig, Delivery, Full, Message
from ondol.eventing.journal.room import STUCK, Room

STREAM = "B-test"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    started.start()
    started.wait_ready()
    yield started
    started.kill()


@pytest.fixture
async def journal(server: Server) -> AsyncIterator[JetStream]:
    async with connected(server) as journal:
        await journal.create_stream(STREAM, bytes_max=-1)
        yield journal


def _message(number: int, topic: str = "t", size: int = 10) -> Message:
    return Message(topic, b"ce-id:%d\r\n" % number, b"x" * size, f"id-{number}")


async def _publish(journal: JetStream, numbers: range, size: int = 10) -> dict[int, int | errors.ApiError]:
    """All at once; the sequence of each, or why it was refused."""
    answers: dict[int, int | errors.ApiError] = {}

    async def publish(number: int) -> None:
        try:
            answers[number] = await journal.publish(STREAM, _message(number, size=size))
        except errors.ApiError as error:
            answers[number] = error

    async with anyio.create_task_group() as tasks:
        for number in numbers:
            tasks.start_soon(publish, number)
    return answers


async def test_a_crowd_of_messages_has_a_sequence_each(journal: JetStream) -> None:
    """Alone or in batches; one that is there already has the one it had."""
    first = await _publish(journal, range(3))
    crowd = await _publish(journal, range(3, 400))
    assert sorted({**first, **crowd}.values(), key=str) == sorted(range(1, 401), key=str)
    again = await _publish(journal, range(390, 420))
    assert all(again[number] == crowd[number] for number in range(390, 400))
    assert (await journal.state(STREAM)).messages == 420


async def test_messages_are_read_trimmed_and_erased(journal: JetStream) -> None:
    """From a place or a time on, of a topic or of all."""
    for number in range(5):
        await journal.publish(STREAM, _message(number, topic="odd" if number % 2 else "even"))
    stored = await journal.read(STREAM, sequence=2)
    assert [each.sequence for each in stored] == [2, 3, 4, 5]
    assert (stored[0].topic, stored[0].data) == ("odd", b"x" * 10)
    assert b"ce-id:1\r\n" in stored[0].headers
    assert [each.sequence for each in await journal.read(STREAM, topic="odd")] == [2, 4]
    since = stored[2].time_ns
    assert [each.sequence for each in await journal.read(STREAM, since_ns=since, limit=1)] == [4]
    await journal.trim(STREAM, 3)
    await journal.erase(STREAM, 4)
    await journal.erase(STREAM, 4)
    await journal.erase(STREAM, 99)
    assert [each.sequence for each in await journal.read(STREAM)] == [3, 5]
    assert await journal.read(STREAM, sequence=6) == []


async def test_a_consumer_keeps_its_place_and_what_it_wants(journal: JetStream) -> None:
    """It begins where it was made; what is put off comes again, counted."""
    await journal.publish(STREAM, _message(0))
    await journal.create_consumer(STREAM, ConsumerConfig("c", ("a",)))
    await journal.create_consumer(STREAM, ConsumerConfig("c", ("a", "b")))
    for number, topic in enumerate("abcab", start=1):
        await journal.publish(STREAM, _message(number, topic))
    taken: list[tuple[int, int]] = []

    def deliver(delivery: Delivery) -> None:
        taken.append((delivery.sequence, delivery.attempt))
        if delivery.sequence == 3 and delivery.attempt == 1:
            delivery.retry(0.05)
        else:
            delivery.ack()

    subscription = journal.subscribe(STREAM, "c", deliver, window=2)
    await until(lambda: len(taken) == 5)
    subscription.close()
    assert sorted(taken) == [(2, 1), (3, 1), (3, 2), (5, 1), (6, 1)]

    async def is_settled() -> bool:
        state = (await journal.consumers(STREAM))["c"]
        return not state.pending and not state.waiting

    with anyio.fail_after(10):
        while not await is_settled():  # noqa: ASYNC110 - it asks another process
            await anyio.sleep(0.02)


async def test_what_is_in_hand_can_be_settled_after_its_reader_closed(journal: JetStream) -> None:
    """At once: nobody waits until the server thinks that the reader has died."""
    await journal.create_consumer(STREAM, ConsumerConfig("c"))
    await _publish(journal, range(2))
    in_hand: list[Delivery] = []
    subscription = journal.subscribe(STREAM, "c", in_hand.append, window=4)
    await until(lambda: len(in_hand) == 2)
    subscription.close()
    in_hand[0].ack()
    in_hand[1].retry(0)
    again: list[tuple[int, int]] = []

    def deliver(delivery: Delivery) -> None:
        again.append((delivery.sequence, delivery.attempt))
        delivery.ack()

    journal.subscribe(STREAM, "c", deliver, window=4)
    await until(lambda: bool(again), limit_s=ACK_WAIT_S / 2)

    async def is_settled() -> bool:
        return not (await journal.consumers(STREAM))["c"].pending

    await eventually(is_settled, limit_s=ACK_WAIT_S / 4)
    assert again == [(2, 2)]


async def test_a_rewound_consumer_delivers_what_was_in_hand_first(journal: JetStream) -> None:
    """In order, as if for the first time: what nobody acknowledged, then what came later."""
    await journal.create_consumer(STREAM, ConsumerConfig("c"))
    await _publish(journal, range(4))
    in_hand: list[int] = []
    subscription = journal.subscribe(STREAM, "c", lambda each: in_hand.append(each.sequence), window=4)
    await until(lambda: len(in_hand) == 4)
    subscription.close()
    await journal.publish(STREAM, _message(9))
    await journal.rewind(STREAM, "c")
    taken: list[int] = []

    def deliver(delivery: Delivery) -> None:
        taken.append(delivery.sequence)
        delivery.ack()

    journal.subscribe(STREAM, "c", deliver, window=4)
    await until(lambda: len(taken) == 5)
    assert taken == [1, 2, 3, 4, 5]


async def test_a_killed_server_loses_nothing_that_it_acknowledged(server: Server, journal: JetStream) -> None:
    """What was in doubt is refused, and kept once when it is sent again."""
    answers: dict[int, int | errors.ApiError] = {}
    async with anyio.create_task_group() as tasks:

        async def publish() -> None:
            answers.update(await _publish(journal, range(2000), size=2000))

        tasks.start_soon(publish)
        await anyio.sleep(0.05)
        server.kill()
    assert any(isinstance(answer, errors.Unavailable) for answer in answers.values())
    server.start()
    server.wait_ready()
    await until(lambda: journal.is_connected)
    again = await _publish(journal, range(2000), size=2000)
    assert all(isinstance(answer, int) for answer in again.values())
    for number, answer in answers.items():
        assert isinstance(answer, errors.ApiError) or again[number] == answer
    assert (await journal.state(STREAM)).messages == 2000


async def test_a_damaged_stream_is_told_and_goes_on(server: Server, journal: JetStream) -> None:
    """The server cuts it where it cannot be read; that is noticed, and what comes then is delivered."""
    await journal.create_consumer(STREAM, ConsumerConfig("c"))
    taken: list[bytes] = []

    def deliver(delivery: Delivery) -> None:
        taken.append(delivery.data)
        delivery.ack()

    journal.subscribe(STREAM, "c", deliver, window=64)
    await _publish(journal, range(50), size=1000)
    await until(lambda: len(taken) == 50)
    await anyio.sleep(0.5)  # until the server has written how far the consumer is
    server.kill()
    await until(lambda: not journal.is_connected)
    (block,) = server.config.data_dir.rglob("1.blk")
    content = block.read_bytes()
    block.write_bytes(content[: len(content) // 2])
    for index in server.config.data_dir.rglob("index.db"):
        index.unlink()
    server.start()
    server.wait_ready()
    await until(lambda: journal.is_connected)
    assert await journal.lost() == {STREAM: 25}
    assert await journal.lost() == {}
    await journal.publish(STREAM, Message("t", b"", b"after", "after"))
    await until(lambda: taken[-1] == b"after")


async def test_a_stream_that_is_full_takes_no_more_until_it_is_trimmed(journal: JetStream) -> None:
    """It forgets nothing by itself."""
    await journal.create_stream(STREAM, bytes_max=20_000)
    answers = await _publish(journal, range(40), size=1000)
    refused = [number for number, answer in answers.items() if isinstance(answer, Full)]
    assert refused
    assert (await journal.state(STREAM)).messages == 40 - len(refused)
    await journal.trim(STREAM, 10)
    assert isinstance(await journal.publish(STREAM, _message(refused[0])), int)


async def test_nobody_without_the_password_is_served(server: Server) -> None:
    """The file with it is the platform's own."""
    config = server.config
    assert config.password_file.stat().st_mode & 0o777 == 0o600
    assert config.config_file.stat().st_mode & 0o777 == 0o600
    address = engine.address(config)
    stranger = type(address)(address.host, address.port, address.user, "wrong")
    with pytest.raises(errors.Unavailable, match="Authorization"):
        await wire.connect(stranger)


def test_a_server_that_is_stuck_is_not_ready_until_it_is_started_anew(server: Server) -> None:
    """The supervisor, who asks, ends it then."""
    assert engine.ready(server.config)
    (server.config.data_dir / STUCK).touch()
    assert not engine.ready(server.config)
    server.kill()
    server.start()
    server.wait_ready()


@pytest.mark.root
async def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    """Events are refused while there is room for what is under way; with room they are taken again."""
    with small_disk(tmp_path / "disk") as disk:
        server = Server(disk.path)
        try:
            server.start()
            server.wait_ready()
            room = Room(server.config.data_dir, clock=SystemClock())
            async with connected(server, room=room) as journal:
                await journal.create_stream(STREAM, bytes_max=-1)
                kept: dict[int, int] = {}
                for start in range(0, 1600, 40):
                    answers = await _publish(journal, range(start, start + 40), size=60_000)
                    kept |= {number: each for number, each in answers.items() if isinstance(each, int)}
                    refused = [each for each in answers.values() if isinstance(each, errors.ApiError)]
                    assert all(isinstance(each, Full) for each in refused), refused[0]
                    if refused:
                        break
                    await anyio.sleep(0.05)
                assert refused, "the disk was never full"
                assert (await journal.state(STREAM)).messages == len(kept)
                await journal.trim(STREAM, max(kept.values()))
                await anyio.sleep(1)
                assert isinstance(await journal.publish(STREAM, _message(5000)), int)
        finally:
            server.kill()
