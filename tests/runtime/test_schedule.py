"""The schedule by itself: any sequence of events keeps its invariants."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from darray.runtime.budget import Budget
from darray.runtime.contexts import Options
from darray.runtime.errors import Failure
from darray.runtime.pieces import Pieces, Turn
from darray.runtime.processor import Processor
from darray.runtime.scopes import ANY, scope
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, RUNNING, Task
from darray.runtime.turns import READING, Line

SEATS = 3
CODE = (lambda: None).__code__
SCOPES = st.sampled_from(
    [
        None,
        scope(thread=0),
        scope(threads=[1, 2]),
        scope(thread=9),
        scope(),
        ANY,
        scope(kind="npu"),
        scope(scope(kind="npu"), scope(thread=1)),
    ]
)
OPTIONS = st.none() | st.builds(
    Options, scope=SCOPES, priority=st.integers(-1, 1), memory=st.sampled_from([0, 0, 3, 7, 11])
)


USES = st.just({}) | st.dictionaries(st.integers(0, 1), st.sampled_from([None, READING, "region"]))

PIECES = st.just({}) | st.dictionaries(st.integers(0, 1), st.booleans())

TURNS = st.just(()) | st.lists(st.integers(0, 2), max_size=3, unique=True)


class Scheduling(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        processors = tuple(Processor(0, "cpu", seat) for seat in range(SEATS))
        self.schedule = Schedule(processors, Budget(10))
        self.tasks = []
        self.lines = [Line(), Line()]
        self.shards = [Pieces(per_thread=True), Pieces(per_thread=False)]
        self.turns = [Turn() for _ in range(3)]

    def running(self):
        return [task for task in self.tasks if task._state == RUNNING]

    def settle(self, finished):
        for task in finished:
            assert task._state >= DONE
            assert (
                task._needs is None
                or all(need._state >= DONE for need in task._needs)
                or (task._state > DONE)
            )

    @rule(options=OPTIONS, uses=USES, pieces=PIECES, turns=TURNS, data=st.data())
    def add(self, options, uses, pieces, turns, data):
        needs = data.draw(st.lists(st.sampled_from(self.tasks), max_size=4)) if self.tasks else []
        task = Task(None, (abs, (), None, False), options, CODE, 0)
        if pieces:
            task._options = options or Options(keeps=True)
            task._pieces = {self.shards[number]: writes for number, writes in pieces.items()}
        if uses:
            task._options = options or Options(keeps=True)
            task._uses = {self.lines[number]: share for number, share in uses.items()}
        if turns:
            task._options = options or Options(keeps=True)
            task._turns = tuple([self.turns[number] for number in turns])
        failed = [need for need in needs if need._state > DONE]
        finished = self.schedule.add(task, needs or None)
        self.tasks.append(task)
        if failed:
            assert finished == [task]
        self.settle(finished)

    @rule(threads=st.integers(1, 2**SEATS - 1), others=st.integers(0, 2**SEATS - 1))
    def reseat(self, threads, others):
        """Have other processors; what can run nowhere any more fails."""
        present = [
            Processor(0, kind, index)
            for kind, chosen in (("cpu", threads), ("npu", others))
            for index in range(SEATS)
            if chosen >> index & 1
        ]
        ready = self.schedule.queued()
        self.schedule.reseat(tuple(present))
        nowhere = [task for task in ready if not self.schedule.seats(task)]
        finished = self.schedule.refuse_stranded()
        assert set(nowhere) <= set(finished)
        self.settle(finished)

    @rule(seat=st.integers(0, 2 * SEATS - 1))
    def take(self, seat):
        if seat >= len(self.schedule.processors):
            return
        ready = [task for task in self.tasks if task._state == READY]
        is_open = {one: self.schedule.is_open(one, seat) for one in ready}
        task = self.schedule.take(seat)
        room = self.schedule.budget.room()
        able = [one for one in ready if seat in self.schedule.seats(one) and is_open[one]]
        if task is None:
            assert all(one._options is not None and one._options.memory > room for one in able)
            return
        assert task in able
        assert task._processor == self.schedule.processors[seat]
        assert task._processor in self.schedule.present
        memory = [one._options.memory if one._options else 0 for one in able]
        priority = [one._options.priority if one._options else 0 for one in able]
        own = task._options.priority if task._options else 0
        room += task._options.memory if task._options else 0
        assert all(
            own >= other for other, nbytes in zip(priority, memory, strict=True) if nbytes <= room
        )

    @precondition(lambda self: self.running())
    @rule(data=st.data(), nbytes=st.sampled_from([0, 2, 5]))
    def finish(self, data, nbytes):
        task = data.draw(st.sampled_from(self.running()))
        following = self.schedule.finish(task, "value", nbytes)
        if following is not None:
            assert following._state == READY
            self.schedule.push(following)
        self.settle(self.schedule.refuse_stranded())

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def fail(self, data):
        task = data.draw(st.sampled_from(self.running()))
        finished = self.schedule.fail(task, Failure(ValueError()), FAILED)
        assert task in finished
        self.settle(finished)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data):
        task = data.draw(st.sampled_from(self.tasks))
        began = task._state >= RUNNING
        finished = self.schedule.cancel(task)
        assert (finished == []) == began
        assert began or all(one._state == CANCELLED for one in finished)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def withdraw(self, data):
        """Break the submission of a task off before it was counted."""
        needs = data.draw(st.lists(st.sampled_from(self.tasks), max_size=3))
        task = Task(None, (abs, (), None, False), None, CODE, 0)
        for need in needs:
            if need._state < DONE:
                need._dependents = [*(need._dependents or ()), task]
        assert self.schedule.withdraw(task, needs) == [task]
        assert task._state == CANCELLED

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def free_memory(self, data):
        task = data.draw(st.sampled_from(self.tasks))
        if task._state == DONE:
            task._hold = None

    @rule()
    def relieve(self):
        self.schedule.waiters.add(self)
        starving = self.schedule.starving()
        finished = self.schedule.relieve()
        self.schedule.waiters.discard(self)
        if starving is None:
            assert finished == []
        else:
            assert not self.running()
            assert starving in finished
            assert starving._options.memory > self.schedule.budget.room()

    @invariant()
    def check(self):
        self.schedule._check(self.tasks)
        begun = [one for one in self.tasks if one._state == RUNNING and hasattr(one, "_uses")]
        for number, one in enumerate(begun):
            for other in begun[:number]:
                for line in one._uses.keys() & other._uses.keys():
                    assert one._uses[line] is other._uses[line] is not None
        for seat in range(len(self.schedule.processors)):
            if not self.schedule.has_work(seat):
                able = [
                    one
                    for one in self.tasks
                    if one._state == READY and self.schedule.is_open(one, seat)
                ]
                room = self.schedule.budget.room()
                assert all(
                    one._options.memory > room for one in able if seat in self.schedule.seats(one)
                )


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=150, stateful_step_count=40)
