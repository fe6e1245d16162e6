"""Several processes at one run, started by PyTorch's ``torchrun`` or ``accelerate launch``; alone, nothing here acts.

Rank 0 does all that a single process does: it decides, writes ``run.toml`` and prints. The others wait, and take their
part in the stages that are shared (``Stage.shared``): the same code runs on every rank there, on its :func:`share` of
the images or of a batch. Waiting has no time limit, as a stage of rank 0 may take hours; what ends it is a rank that is
gone, which its missing pulse tells within a minute, whoever started the processes.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from recamlabel.core.progress import be_mute
from recamlabel.errors import ConfigError, RecamlabelError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# All ranks have to be there by then; the first may still load libraries.
JOIN = timedelta(minutes=5)
# Of one exchange of tensors, at which all ranks arrive together. A rank that is gone is noticed long before.
EXCHANGE = timedelta(minutes=10)
# A rank whose pulse has stood still for so many of one's own beats is gone; then what cannot be interrupted is ended.
# Counted in beats and not in seconds: who is stopped and goes on (Ctrl-Z, a suspended machine) has not missed any.
BEAT_SECONDS, MISSED_BEATS, GRACE_SECONDS = 1.0, 40, 8.0
AGAIN = "the same command continues where it stopped, with any number of processes"


class RankLostError(RecamlabelError):
    """Another process of the run has ended, or cannot be reached."""


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: Among all, 0 to ``world - 1``.
        world: How many there are.
        local_rank: Among those of this machine.
        local_world: How many of them are on this machine.

    Example:
        >>> place({}).world, place({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}).rank
        (1, 3)
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


def place(environment: Any = None) -> Place:
    """What the launcher says in the environment; one process alone where there was none.

    Raises:
        ConfigError: Variables that are no numbers.
    """
    given = os.environ if environment is None else environment
    if any(name not in given for name in NEEDED):
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        numbers = [int(given.get(name, default)) for name, default in zip(names, (0, 1, 0, 1), strict=True)]
    except ValueError:
        found = ", ".join(f"{name}={given.get(name)!r}" for name in names)
        raise ConfigError(
            f"{found}: expected numbers, as torchrun sets them; unset them for a single process"
        ) from None
    return Place(*numbers)


@dataclass
class Team:
    """This process among the others.

    Attributes:
        here: Which one it is.
        store: What all ranks write notes to.
        working: Whether a shared stage is being done; outside, rank 0 works alone.
        lost: Why a rank is taken for gone; empty while none is.
    """

    here: Place
    store: Any
    working: bool = False
    lost: str = ""
    meetings: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.here.rank == 0

    def meet(self) -> None:
        """Wait until all ranks are here, however long that takes. Raises RankLostError where one is gone."""
        self.meetings += 1
        key, pause = f"meeting/{self.meetings}", 0.002
        with _reaching(self):
            here = int(self.store.add(key, 1))
            while here < self.here.world:
                if self.lost:
                    raise RankLostError(self.lost)
                time.sleep(pause)
                # In Python, a few times a second: a signal has to be heard meanwhile.
                pause = min(2 * pause, 0.2)
                here = int(self.store.add(key, 0))

    def of_first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives on rank 0, which works alone meanwhile; the same on all ranks."""
        import torch.distributed as dist

        found: list[Any] = [None]
        if self.first:
            before, self.working = self.working, False
            try:
                found = [work()]
            finally:
                self.working = before
        self.meet()
        with _reaching(self):
            dist.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[no-any-return]

    def gathered(self, value: Result) -> list[Result]:
        """Every rank's value on rank 0, in their order; empty on the others."""
        import torch.distributed as dist

        self.meet()
        found: list[Any] | None = [None] * self.here.world if self.first else None
        with _reaching(self):
            dist.gather_object(value, found, dst=0)
        return found or []


_TEAM: Team | None = None
# Runs that this process has had a part in, which tells their notes apart.
_RUNS = [0]


def _working() -> Team | None:
    """The team, in a shared stage; None where this process works alone."""
    return _TEAM if _TEAM is not None and _TEAM.working else None


def in_team() -> bool:
    """Whether there are other processes at this run, at work or waiting."""
    return _TEAM is not None


def is_first() -> bool:
    """Whether this process writes what all of them make: rank 0, and every one that is at no run with others."""
    return _TEAM is None or _TEAM.first


def share(items: Sequence[Item]) -> list[Item]:
    """The items that are this rank's; all of them where it works alone.

    Example:
        >>> share([1, 2, 3])
        [1, 2, 3]
    """
    team = _working()
    return list(items) if team is None else list(items[team.here.rank :: team.here.world])


def slots(count: int) -> range:
    """Which of a batch's slots are this rank's: neighbours, as many for each rank as for others, or one more.

    Example:
        >>> slots(4)
        range(0, 4)
    """
    team = _working()
    rank, world = (0, 1) if team is None else (team.here.rank, team.here.world)
    return range(rank * count // world, (rank + 1) * count // world)


def world() -> int:
    """How many processes work together just now; 1 where this one works alone.

    Example:
        >>> world()
        1
    """
    team = _working()
    return 1 if team is None else team.here.world


def rank() -> int:
    """Which of them this one is; 0 where it works alone.

    Example:
        >>> rank()
        0
    """
    team = _working()
    return 0 if team is None else team.here.rank


def portion(workers: int) -> int:
    """Worker processes for this rank, of those that the machine is to have.

    Example:
        >>> portion(8)
        8
    """
    team = _working()
    return workers if team is None or workers <= 1 else max(1, workers // team.here.local_world)


def meet() -> None:
    """Wait for all ranks; nothing where this process works alone."""
    if (team := _working()) is not None:
        team.meet()


def of_first(work: Callable[[], Result]) -> Result:
    """``work()`` of rank 0, on all ranks.

    Example:
        >>> of_first(lambda: 3)
        3
    """
    team = _working()
    return work() if team is None else team.of_first(work)


def gathered(value: Result) -> list[Result]:
    """``[value]`` of all ranks on rank 0; empty on the others.

    Example:
        >>> gathered(3)
        [3]
    """
    team = _working()
    return [value] if team is None else team.gathered(value)


def merged(value: Item, merge: Callable[[list[Item]], Result]) -> Result:
    """``merge`` of all ranks' values, on all ranks.

    Example:
        >>> merged(3, sum)
        3
    """
    everyones = gathered(value)
    return of_first(lambda: merge(everyones))


def total(values: Tensor) -> Tensor:
    """The sum of all ranks' tensors, on all of them; all ranks have to come here at the same point."""
    team = _working()
    if team is None:
        return values
    import torch.distributed as dist

    summed = values.detach().clone()
    with _reaching(team):
        dist.all_reduce(summed)
    return summed


def batch_total(count: Tensor | int, least: float = 1) -> Tensor | float:
    """What a sum over this rank's part of a batch is divided by, so that the mean over the ranks is the batch's mean.

    ``max(total, least) / world``, with the total over all ranks: with the sums ``s_r`` of a loss, the mean over the
    ranks of ``s_r / (n / world)`` is ``sum s_r / n``, and so are the gradients. (The usual ``s_r / n_r`` would let an
    image weigh more the fewer pixels or labels its rank happens to have.)

    Args:
        count: Of this rank: known labels, weights of pixels; a scalar.
        least: Where there are none.

    Example:
        >>> batch_total(12), batch_total(0)
        (12, 1)
    """
    if world() == 1:
        return max(count, least) if isinstance(count, int) else count.clamp(min=least)
    if isinstance(count, int):
        import torch

        count = torch.tensor(float(count), dtype=torch.float64)
    return total(count).clamp(min=least) / world()


def previous_row(values: Tensor) -> Tensor:
    """The last row of the rank before, ``(1, ...)``; of the last rank for the first one, as rows go round."""
    team = _working()
    if team is None:
        return values[-1:]
    import torch
    import torch.distributed as dist

    own = values[-1:].contiguous()
    sent = own.to(torch.uint8) if own.dtype == torch.bool else own
    rows = [torch.empty_like(sent) for _ in range(team.here.world)]
    with _reaching(team):
        dist.all_gather(rows, sent)
    return rows[team.here.rank - 1].to(own.dtype)


def own_chance() -> None:
    """From here on torch draws other numbers on every rank, as dropout has to in the parts of one batch."""
    if (number := rank()) > 0:
        import torch

        torch.manual_seed(torch.initial_seed() + number)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Be one of the processes that a launcher has started, for the length of one run.

    Args:
        device: As ``runtime.device``: NCCL is there for GPUs, gloo for CPUs.

    Raises:
        ConfigError: The device does not go with the rank, or the script has a process group of its own.
        RankLostError: The others cannot be reached, or one of them has gone.
    """
    global _TEAM
    here = place()
    if here.world == 1 or _TEAM is not None:
        yield
        return
    _TEAM = team = _start(here, device)
    be_mute(not team.first)
    try:
        yield
        _end(team)
    except BaseException as error:
        _say_goodbye(team, error)
        if team.lost and isinstance(error, KeyboardInterrupt):
            raise RankLostError(team.lost) from None
        raise
    finally:
        team.over.set()
        be_mute(False)
        _TEAM = None


@contextmanager
def together(order: Any) -> Iterator[Any]:
    """While it lasts all ranks work: rank 0 says what at, and the others, which give None, hear it.

    Args:
        order: Anything that can be pickled. Rank 0's is what all get.
    """
    team = _TEAM
    assert team is not None
    told = team.of_first(lambda: order)
    team.working = True
    try:
        yield told
        if told is not None:
            team.meet()
    finally:
        team.working = False


def _start(here: Place, device: str) -> Team:
    import torch
    import torch.distributed as dist

    from recamlabel.core.devices import pick_device

    if dist.is_initialized():
        raise ConfigError(
            "torch.distributed has a process group already, and fit makes its own; call fit before that group is made, "
            "or after torch.distributed.destroy_process_group()"
        )
    cuda = (chosen := pick_device(device)).type == "cuda"
    if cuda:
        torch.cuda.set_device(chosen)
    try:
        # PyTorch documents these names, and leaves them out of its list of exports.
        store, _, _ = next(dist.rendezvous("env://", here.rank, here.world, timeout=JOIN))  # type: ignore[attr-defined]
        _RUNS[0] += 1
        store = dist.PrefixStore(f"recamlabel/{_RUNS[0]}", store)  # type: ignore[attr-defined]
        group = dist.PrefixStore("group", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=group, rank=here.rank, world_size=here.world, timeout=EXCHANGE)
    except RuntimeError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankLostError(
            f"the {here.world} processes of this run did not find each other at {where} ({_short(error)}); they are "
            "started together by `torchrun --nproc-per-node N -m recamlabel fit …`; for a single process unset "
            "WORLD_SIZE"
        ) from None
    team = Team(here, store)
    threading.Thread(target=_watch, args=(team,), daemon=True, name="pulse").start()
    return team


def _end(team: Team) -> None:
    import torch.distributed as dist

    if not team.first:
        # Rank 0 has done all; where it has gone by now, that is no loss.
        team.over.set()
    with suppress(*() if team.first else (RankLostError,)):
        team.meet()
    team.over.set()
    with _reaching(team):
        dist.destroy_process_group()


def _say_goodbye(team: Team, error: BaseException) -> None:
    """Tell the others that this rank ends, so that they need not wait for its pulse to stop."""
    if team.lost:
        return
    reason = _short(error) if isinstance(error, Exception) else "interrupted"
    try:
        team.store.set("ended", f"{team.here.rank} {reason}")
    except RuntimeError:
        return  # they see it at the connection that is closed


def _watch(team: Team) -> None:
    """Show one's own pulse, feel that of the others; a process that waits for one that is gone is ended."""
    try:
        store = team.store.clone()  # a connection of its own: that of the other thread may be waiting
        seen = {rank: (b"", 0) for rank in range(team.here.world) if rank != team.here.rank}
        beats = 0
        while not team.over.wait(BEAT_SECONDS):
            beats += 1
            store.set(f"pulse/{team.here.rank}", str(beats))
            reason = _ended(team, store) or _pulseless(store, seen)
            if reason:
                break
        else:
            return
    except RuntimeError as error:
        reason = f"the other processes cannot be reached any more ({_short(error)}); {AGAIN}"
    if team.over.is_set():
        return
    team.lost = reason
    _thread.interrupt_main()
    # What waits inside of an exchange of tensors hears no signal.
    if not team.over.wait(GRACE_SECONDS):
        print(f"recamlabel: rank {team.here.rank}: {team.lost}", file=sys.stderr, flush=True)
        os._exit(1)


def _ended(team: Team, store: Any) -> str:
    if not store.check(["ended"]):
        return ""
    number, _, reason = store.get("ended").decode().partition(" ")
    return "" if int(number) == team.here.rank else f"rank {number} has ended ({reason})"


def _pulseless(store: Any, seen: dict[int, tuple[bytes, int]]) -> str:
    for number, (before, missed) in seen.items():
        key = f"pulse/{number}"
        now = store.get(key) if store.check([key]) else b""
        seen[number] = (now, missed + 1 if now == before else 0)
        if seen[number][1] >= MISSED_BEATS:
            return f"rank {number} has not been heard of for {MISSED_BEATS * BEAT_SECONDS:.0f} s; {AGAIN}"
    return ""


@contextmanager
def _reaching(team: Team) -> Iterator[None]:
    """What PyTorch raises where the other end has gone, as a message."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RecamlabelError):
            raise
        reason = team.lost or f"another process of this run has ended ({_short(error)}); {AGAIN}"
        raise RankLostError(reason) from None


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
