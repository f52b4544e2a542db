"""Edges: a state machine against a list, and two threads at the two ends."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from darray.runtime.errors import Failure
from darray.runtime.streams.edges import LIGHT, Edge, Heavy
from darray.runtime.streams.policies import POLICIES

MOST_BYTES = 100


class Side:
    """A party that notes what it is told."""

    def __init__(self):
        self.is_alarmed = False
        self.space = None
        self.woken = 0
        self.gone = []
        self._go = threading.Semaphore(0)

    def wake(self, waker=None):
        self.woken += 1
        self._go.release()

    def left(self, edge):
        self.gone.append(edge)

    def wait(self):
        assert self._go.acquire(timeout=60)


def weight(value):
    return 0 if type(value) in LIGHT else value.nbytes


def is_full(model):
    return len(model.items) >= model.capacity or sum(map(weight, model.items)) >= MOST_BYTES


class Edges(RuleBasedStateMachine):
    """One edge, used by one thread, and what a list says of it."""

    @initialize(policy=st.sampled_from(sorted(POLICIES)), capacity=st.integers(1, 4))
    def begin(self, policy, capacity):
        self.policy = POLICIES[policy]
        capacity = self.policy.keeps or capacity
        self.producer, self.consumer = Side(), Side()
        self.edge = Edge("a -> b", self.policy, capacity, MOST_BYTES, self.producer)
        self.edge.consumer = self.consumer
        self.made = 0
        self.model = SimpleNamespace(
            items=[], capacity=capacity, received=0, dropped=0, ended=False, left=False,
            producer_waits=False, consumer_waits=False, producer_woken=0, consumer_woken=0,
        )  # fmt: skip

    # What the producer does

    def has_room(self):
        return self.policy.drops or self.model.left or not is_full(self.model)

    @precondition(lambda self: not self.model.ended)
    @rule()
    def ask_for_room(self):
        room = self.edge.room()
        assert bool(room) == self.has_room()
        if not self.policy.drops and not self.model.left and room:
            assert room == self.model.capacity - len(self.model.items)
        self.model.producer_waits = self.model.producer_waits or not room

    @precondition(lambda self: not self.model.ended and self.has_room())
    @rule(nbytes=st.integers(0, 130))
    def put(self, nbytes):
        self.made += 1
        value = np.full(nbytes, self.made % 256, np.uint8) if nbytes > 10 else self.made
        self.edge.put(value)
        self.come(value)

    @precondition(lambda self: not self.model.ended and self.has_room() and not self.policy.drops)
    @rule(count=st.integers(1, 4))
    def append(self, count):
        """As stages do with small values: without the lock, as many as there was room for."""
        for _ in range(min(count, self.edge.room())):
            self.made += 1
            self.edge.items.append(self.made)
            if self.edge.consumer_waits:
                self.edge.serve()
            if self.model.left:
                self.model.items.append(self.made)
            else:
                self.come(self.made)

    def come(self, value):
        model = self.model
        if model.left:
            model.dropped += 1
            return
        model.items.append(value)
        if self.policy.drops:
            while len(model.items) > model.capacity or (
                sum(map(weight, model.items)) > MOST_BYTES and len(model.items) > 1
            ):
                model.items.pop(-1 if self.policy.name == "drop newest" else 0)
                model.dropped += 1
        if model.consumer_waits and model.items:
            model.consumer_waits = False
            model.consumer_woken += 1

    @rule(fails=st.booleans())
    def end(self, fails):
        failure = Failure(ValueError("over")) if fails else None
        self.edge.end(failure)
        if not self.model.ended:
            self.model.ended = True
            self.model.producer_waits = self.model.consumer_waits = False
            self.model.consumer_woken += 1
            self.failure = failure
            assert self.consumer.is_alarmed
            if self.model.left:
                self.drop_all()
        assert self.edge.failure is self.failure

    @precondition(lambda self: self.model.left)
    @rule()
    def clear(self):
        self.edge.clear()
        self.drop_all()

    def drop_all(self):
        self.model.dropped += len(self.model.items)
        self.model.items.clear()

    # What the consumer does

    @precondition(lambda self: not self.model.left)
    @rule()
    def ask_for_values(self):
        assert self.edge.available() == len(self.model.items)
        if not self.model.items and not self.model.ended:
            self.model.consumer_waits = True

    @precondition(lambda self: not self.model.left and self.model.items)
    @rule()
    def pop(self):
        assert self.edge.pop() is self.model.items.pop(0)
        self.took()

    @precondition(
        lambda self: (
            not (self.model.left or self.policy.drops or self.edge.nbytes) and self.model.items
        )
    )
    @rule()
    def pop_small(self):
        """As stages do with small values: without the lock."""
        assert self.edge.items.popleft() is self.model.items.pop(0)
        self.edge.received += 1
        if self.edge.producer_waits:
            self.edge.serve()
        self.took()

    def took(self):
        self.model.received += 1
        if self.model.producer_waits and not is_full(self.model):
            self.model.producer_waits = False
            self.model.producer_woken += 1

    @precondition(lambda self: not self.model.left and not self.model.items)
    @rule()
    def pop_nothing(self):
        with pytest.raises(IndexError):
            self.edge.pop()

    @precondition(lambda self: not (self.model.left or self.policy.drops) and self.model.items)
    @rule()
    def pop_any(self):
        """As stages do where they thought that values are small."""
        value = self.edge.items.popleft()
        if isinstance(value, Heavy):
            value = self.edge.unwrapped(value)
        assert value is self.model.items.pop(0)
        self.edge.received += 1
        if self.edge.producer_waits:
            self.edge.serve()
        self.took()

    @rule()
    def leave(self):
        dropped = self.edge.leave()
        assert dropped == (0 if self.model.left else len(self.model.items))
        if not self.model.left:
            self.model.left = True
            self.model.producer_waits = self.model.consumer_waits = False
            if self.model.ended:
                self.drop_all()
            else:
                assert self.producer.is_alarmed
                assert self.producer.gone == [self.edge]

    # What holds after each

    @invariant()
    def is_as_the_model(self):
        if not hasattr(self, "edge"):
            return
        edge, model = self.edge, self.model
        edge._check()
        held = [one.value if isinstance(one, Heavy) else one for one in edge.items]
        assert list(map(id, held)) == list(map(id, model.items))
        assert (edge.received, edge.dropped) == (model.received, model.dropped)
        assert edge.sent == self.made
        assert (edge.is_ended, edge.is_left) == (model.ended, model.left)
        assert edge.producer_waits == model.producer_waits
        assert edge.consumer_waits == model.consumer_waits
        assert self.producer.woken == model.producer_woken
        assert self.consumer.woken == model.consumer_woken


TestEdges = Edges.TestCase
TestEdges.settings = settings(max_examples=200, stateful_step_count=40)


# Two threads


def transferred(edge, values, is_small):
    """What a consumer thread gets of `values`, which a producer thread puts."""
    producer, consumer = Side(), Side()
    edge.producer, edge.consumer = producer, consumer
    got = []

    def produce():
        at = 0
        while at < len(values):
            room = edge.room()
            if not room:
                producer.wait()
                continue
            # As stages do: small values as many as there is room for, others one by one.
            for value in values[at : at + (room if is_small else 1)]:
                if is_small:
                    edge.items.append(value)
                    if edge.consumer_waits:
                        edge.serve()
                else:
                    edge.put(value)
                at += 1
        edge.end()

    def consume():
        while True:
            count = edge.available()
            if not count:
                if edge.is_ended and not edge.items:
                    return
                consumer.wait()
                continue
            for _ in range(count if is_small else 1):
                if is_small:
                    got.append(edge.items.popleft())
                    edge.received += 1
                    if edge.producer_waits:
                        edge.serve()
                else:
                    got.append(edge.pop())

    both = [threading.Thread(target=one, daemon=True) for one in (produce, consume)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
        assert not thread.is_alive()
    edge._check()
    return got


@pytest.mark.parametrize("capacity", [1, 2, 64])
@pytest.mark.parametrize("is_small", [True, False])
def test_two_threads_pass_every_value_in_order(capacity, is_small):
    count = 20_000 if capacity > 2 else 3_000
    edge = Edge("a -> b", POLICIES["block"], capacity, 10**6, Side())
    assert transferred(edge, list(range(count)), is_small) == list(range(count))
    assert (edge.sent, edge.received, edge.dropped) == (count, count, 0)


def test_two_threads_pass_bytes():
    edge = Edge("a -> b", POLICIES["block"], 64, 500, Side())
    values = [np.full(size % 300, size) if size % 3 else size for size in range(3_000)]
    got = transferred(edge, values, is_small=False)
    assert list(map(id, got)) == list(map(id, values))
    assert edge.nbytes == 0


@pytest.mark.parametrize("name", ["drop oldest", "drop newest", "latest"])
def test_two_threads_with_values_dropped(name):
    policy = POLICIES[name]
    edge = Edge("a -> b", policy, policy.keeps or 5, 10**6, Side())
    consumer = edge.consumer = Side()
    count = 20_000
    got = []

    def produce():
        for number in range(count):
            edge.put(number)
        edge.end()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    while not (edge.is_ended and not edge.items):
        if not edge.available():
            if not edge.is_ended:
                consumer.wait()
            continue
        try:
            got.append(edge.pop())
        except IndexError:
            continue
    thread.join(60)
    edge._check()
    assert got == sorted(set(got))
    assert edge.sent == count == len(got) + edge.dropped
    if name != "drop newest":
        assert got[-1] == count - 1
