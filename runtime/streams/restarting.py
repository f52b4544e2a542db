"""What becomes of a streaming task whose worker is lost."""

from __future__ import annotations

from darray.runtime.arguments import uses_in
from darray.runtime.errors import Failure, SchedulingError, WorkerLostError
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.links import Ended, Receiver, Sending, Value, connect
from darray.runtime.streams.placing import Placing, Plan
from darray.runtime.streams.plain import PlainStage
from darray.runtime.streams.stages import Stage

__all__ = ["lose"]


def lose(plan: Plan, worker: int, placing: Placing, sendings: dict[Edge, Sending]) -> Plan | None:
    """End the stage of `plan`, whose worker is lost, or let it begin anew: the plan of that.

    `sendings` are the producers' ends of the edges between workers.
    """
    stage = plan.stage
    reason = _hindrance(plan, sendings)
    # From here on nothing comes from there.
    ends = [sendings[edge] for edge in stage.inputs if edge in sendings]
    for end in ends:
        end.cut()
    if reason is None:
        anew = PlainStage(stage.task, (), plan.given, stage.teardown)
        other = Plan(anew, plan.call, plan.given, plan.is_settled, plan.after)
        placing.lost.add(worker)
        try:
            placing.choose(other)
        except SchedulingError as error:
            reason = str(error)
        else:
            if stage.retire():
                _begin_anew(stage, other, sendings)
                placing.settle(other)
                return other
    for end in ends:
        # What is put from now on is dropped, and not among what was sent.
        end.leave()
    stage.fail(Failure(_loss(stage, worker, reason or "it has ended", sendings)))
    return None


def _hindrance(plan: Plan, sendings: dict[Edge, Sending]) -> str | None:
    """Why the stage of `plan` cannot begin anew; None where it can."""
    stage = plan.stage
    if not plan.given.restartable:
        return "it is not restartable"
    if stage.__class__ is not PlainStage or stage.expands or not stage.inputs:
        return "only what gives one value for each row of values can begin anew"
    if uses_in(plan.call[0], *plan.call[1], *plan.call[2].values()):
        return "a mutable or a shard that it uses is gone with its worker"
    if not all(edge in sendings for edge in stage.inputs):
        return "what gives it values was on the same worker"
    if not all(isinstance(edge, Sending) for edge in stage.outputs):
        return "what takes its values was on the same worker"
    return None


def _loss(stage: Stage, worker: int, reason: str, sendings: dict[Edge, Sending]) -> WorkerLostError:
    told = []
    for edge in stage.inputs:
        end = sendings.get(edge, edge)
        told.append(
            f"of {end.sent:,} values that {edge.names[0]!r} sent {end.received:,} were used"
        )
    counts = "; " + ", ".join(told) if told else ""
    task = stage.task
    return WorkerLostError(
        f"worker {worker}, on which streaming task {task.name!r} ran, spawned at "
        f"{task.spawned_at}, is lost{counts}. It did not begin anew elsewhere, as {reason}"
    )


def _begin_anew(stage: Stage, plan: Plan, sendings: dict[Edge, Sending]) -> None:
    """Join the new stage of `plan` to all that `stage` was joined to, from where that was."""
    anew = plan.stage
    ends = [sendings.pop(edge) for edge in stage.inputs]
    # A call is told of for one input after the other.
    count = max(end.received for end in ends)
    anew.evaluations = count
    outputs = {
        end: _output_anew(end, anew, count) for end in stage.outputs if isinstance(end, Sending)
    }
    anew.resume(tuple(outputs.values()), count)
    for edge, end in list(sendings.items()):
        if end in outputs:
            sendings[edge] = outputs[end]
    edges = []
    for edge, end in zip(stage.inputs, ends, strict=True):
        fresh = Edge(edge.names, edge.policy, edge.capacity, edge.most_bytes, edge.producer)
        fresh.consumer = anew
        fresh.received = count
        assert anew.space is not None
        receiver = Receiver(fresh, anew.space, first=count)
        fresh.producer = fresh.receiver = receiver
        sendings[fresh] = end
        edges.append(fresh)
        _send_again(end, receiver)
    anew.inputs = tuple(edges)


def _output_anew(end: Sending, anew: Stage, count: int) -> Sending:
    """The producer's end of `anew` for the consumer of `end`, who saw values of `count` calls."""
    assert end.crossing is not None
    fresh = Sending(end, *end.crossing)
    fresh.producer = anew
    receiver = end.cut()
    with end._lock:
        # What a call still gives that goes on there is for nobody.
        end.is_left = True
        # Calls are numbered as their values: those that the consumer knows it will drop.
        fresh.received = min(end.received, count)
        fresh.items.extend(list(end.items)[: max(0, count - end.received)])
    fresh.nbytes = sum(one.nbytes for one in fresh.items)
    connect(fresh, receiver)
    receiver.acknowledge_again()
    return fresh


def _send_again(end: Sending, receiver: Receiver) -> None:
    """Send to `receiver` what was under way when the consumer was lost."""
    connect(end, receiver)
    with end._lock:
        first, contents = end.received, list(end.items)
        ended = Ended(end.sent, end.failure) if end.is_ended else None
    for number, content in enumerate(contents, first):
        receiver.receive(Value(number, content))
    if ended is not None:
        receiver.receive(ended)
