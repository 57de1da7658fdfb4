"""Histories from seeds: what is defined, and what happens, drawn by a generator that knows what is possible.

Rules of this file:
  * the same seed and size give the same history, on every machine: `random.Random(seed)` and nothing else;
  * a definition that production would refuse is not drawn; everything else is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tidemill.testing.simulator.transforms import PAIRED, ROWWISE
from tidemill.testing.simulator.words import (
    Action,
    Apply,
    Ask,
    Crash,
    Define,
    Doom,
    Emit,
    Expire,
    GateSpec,
    Go,
    History,
    JobSpec,
    LookAtFiles,
    Meanwhile,
    Pass,
    Pause,
    PutFile,
    RemoveFile,
    Rename,
    Resume,
    Resync,
    SecondOwner,
    SendAgain,
    Settle,
    SourceSpec,
    Stumble,
    Touch,
    Trim,
    Trouble,
)

__all__ = ["SIZE", "history_of"]

SIZE = 60
"""Actions of a history, about."""

DAYS = ("2024-03-01", "2024-03-02", "2024-03-04")
KEYS = "abcd"
TOLD = ("once", "once", "once", "lost", "twice")


def history_of(seed: int, size: int = SIZE) -> History:
    """The history of a seed."""
    return _Drawing(Random(seed), size).history()


class _Drawing:
    """One history being drawn."""

    def __init__(self, random: Random, size: int) -> None:
        self.random = random
        self.size = size
        self.sources: list[SourceSpec] = []
        self.jobs: dict[str, JobSpec] = {}
        self.version = 0
        self.renamed = 0
        # A reader that takes a few changes at a time cannot begin on a log whose beginning is gone: trimmed before it
        # came, or begun anew with other columns. So a history has the one or the other.
        self.caps = random.random() < 0.5
        self.trims = not self.caps and random.random() < 0.4
        # A job that is changed or renamed after rows expired is refused for good: so a history has the one or the other.
        self.expires = random.random() < 0.3

    def history(self) -> History:
        self.sources = self._draw_sources()
        while not self.jobs:
            for number in range(self.random.randint(1, 4)):
                self._draw_job(f"j{number}")
        jobs = tuple(self.jobs.values())
        actions: list[Action] = []
        length = self.random.randint(self.size // 3, self.size)
        while len(actions) < length:
            actions.extend(self._draw_actions())
        return History(tuple(self.sources), jobs, tuple(actions))

    # ------------------------------------------------------------------------------------------- definitions

    def _draw_sources(self) -> list[SourceSpec]:
        random = self.random
        kinds = random.sample(("append", "append", "upsert", "files", "external"), random.randint(1, 3))
        if all(kind == "external" for kind in kinds):
            kinds = [*kinds, "append"]
        return [self._draw_source(f"{kind}{number}", kind) for number, kind in enumerate(kinds)]

    def _draw_source(self, name: str, kind: str) -> SourceSpec:
        is_gated = kind == "files" and self.random.random() < 0.6
        retracts = self.random.random() < 0.3
        has_ids = kind == "append" and self.random.random() < 0.4
        return SourceSpec(name, kind, ("s1", "s2") if is_gated else (), retracts=retracts, has_ids=has_ids)

    def _kind(self, name: str) -> str:
        found = next((source.kind for source in self.sources if source.name == name), "")
        writer = next((spec for spec in self.jobs.values() if spec.output == name), None)
        return found or ("append" if writer is not None and writer.to_topic else "table")

    def _readable(self) -> list[str]:
        tables = [spec.output for spec in self.jobs.values() if spec.takes != "run"]
        return [*(source.name for source in self.sources if source.kind != "external"), *tables]

    def _draw_job(self, name: str) -> None:
        shapes: tuple[str, ...] = (
            "map",
            "keep",
            "split",
            "sum",
            "sum",
            "count",
            "distinct",
            "join",
            "union",
            "run",
            "run",
        )
        # What is computed from all rows keeps them: where rows are to expire, most jobs take what is new.
        if self.expires and self.random.random() < 0.7:
            shapes = (*ROWWISE, "run")
        shape = self.random.choice(shapes)
        readable = self._readable()
        if shape in PAIRED:
            if len(readable) < 2:
                return
            inputs = tuple(self.random.sample(readable, 2))
        else:
            inputs = (self.random.choice(readable[-3:]),)
        self.jobs[name] = self._draw_pace(self._draw_transform(name, shape, inputs))

    def _draw_transform(self, name: str, shape: str, inputs: tuple[str, ...]) -> JobSpec:
        """A transform of these inputs."""
        random = self.random
        if shape == "run":
            hold_above = random.choice((2, 5)) if random.random() < 0.25 else 1_000
            gate = self._draw_gate(inputs)
            return JobSpec(name, "map", "run", inputs, f"x{name[1:]}", gate=gate, hold_above=hold_above)
        kinds = {self._kind(asset) for asset in inputs}
        takes = "sql" if random.random() < 0.4 else "full" if shape not in ROWWISE else "row"
        if takes == "row" and shape == "map" and kinds <= {"append", "upsert"} and random.random() < 0.6:
            takes = "table"
        return JobSpec(
            name,
            shape,
            takes,
            inputs,
            f"t{name[1:]}",
            factor=random.randint(1, 3),
            poison=random.randrange(13) if random.random() < 0.3 else -1,
            is_keyed=shape in ("sum", "count", "join") and random.random() < 0.7,
            to_topic=takes == "row" and kinds <= {"append"} and random.random() < 0.4,
            gate=self._draw_gate(inputs) if takes in ("row", "full") else None,
        )

    def _draw_gate(self, inputs: tuple[str, ...]) -> GateSpec | None:
        random = self.random
        if not any(source.name in inputs and source.members for source in self.sources) or random.random() < 0.3:
            return None
        deadline = random.choice(("", "06:00"))
        return GateSpec(
            deadline,
            random.choice(("wait", "run", "fail")) if deadline else "wait",
            random.choice(("correct", "correct", "next", "hold")),
        )

    def _draw_pace(self, spec: JobSpec) -> JobSpec:
        """Another mode and trigger for the same transform."""
        random = self.random
        schedule = f"0 */{random.choice((1, 6))} * * *" if random.random() < 0.1 else ""
        starters = [source.name for source in self.sources if source.kind == "external"]
        delays = spec.gate is None and not schedule and all(self._kind(asset) == "append" for asset in spec.inputs)
        return replace(
            spec,
            mode=random.choice(("realtime", "realtime", "microbatch", "batch")),
            when=self._draw_when(spec),
            schedule=schedule,
            on=random.choice(starters) if starters and random.random() < 0.2 else "",
            after=random.choice((30.0, 600.0)) if delays and random.random() < 0.15 else 0.0,
            max_changes=random.choice((0, 5) if schedule else (0, 1, 2, 5)) if self.caps else 0,
            on_error="stop" if random.random() < 0.1 and spec.takes != "run" else "park",
        )

    def _draw_when(self, spec: JobSpec) -> str:
        words = ["", "", "any", "all", "each"]
        if len(spec.inputs) > 1:
            words += [" & ".join(spec.inputs), " | ".join(spec.inputs)]
        return self.random.choice(words)

    # ----------------------------------------------------------------------------------------------- actions

    def _draw_actions(self) -> tuple[Action, ...]:
        """One action, or a few that make a story."""
        number = self.random.randrange
        table: list[tuple[int, Callable[[], Action | tuple[Action, ...] | None]]] = [
            (24, self._news),
            (24, lambda: Go(tuple(number(10) for _ in range(number(1, 8))))),
            (8, Settle),
            (4, lambda: Pass(self.random.choice((1.0, 20.0, 301.0, 3601.0, 90_000.0)))),
            (1, lambda: Pass(self.random.choice((-20.0, -3601.0, -90_000.0)))),
            (3, self._send_again),
            (2, Crash),
            (5, lambda: Doom(*self._commit())),
            (3, lambda: Stumble(*self._commit())),
            (2, lambda: Trouble(self._job().name, self.random.choice((1, 2, 5)))),
            (4, self._meanwhile),
            (4, self._change_mode),
            (0 if self.expires else 3, self._change_transform),
            (0 if self.expires else 2, self._rename),
            (5 if self.expires else 0, self._expire),
            (1, lambda: Pause(self._job().name)),
            (2, lambda: Resume(self._job().name)),
            (2, Ask),
            (2, Resync),
            (1, Apply),
            (4 if self.trims else 0, Trim),
            (4 if self.trims else 0, self._late_then_trimmed),
            (1, SecondOwner),
            (3, lambda: Go(tuple(number(10) for _ in range(number(1, 8))), is_old=True)),
            (6, self._tried_again),
            (5, self._dies_working),
            (8, self._whole_day),
        ]
        while True:
            (draw,) = self.random.choices([draw for _, draw in table], [weight for weight, _ in table])
            drawn = draw()
            if drawn:
                return drawn if isinstance(drawn, tuple) else (drawn,)

    def _expire(self) -> tuple[Action, ...]:
        """Mostly what everybody has read; or in the middle of things."""
        expire = Expire(self.random.choice((0.3, 0.7, 1.0)))
        return (Settle(), expire) if self.random.random() < 0.7 else (expire,)

    def _send_again(self) -> Action | None:
        named = [source for source in self.sources if source.has_ids]
        if not named:
            return None
        return SendAgain(self.random.choice(named).name, self.random.randint(1, 6), self.random.choice(TOLD))

    def _tried_again(self) -> tuple[Action, ...]:
        """A run fails, and news of what it reads arrives before it is tried again."""
        outside = [spec for spec in self.jobs.values() if spec.takes == "run"]
        spec = self.random.choice(outside) if outside else self._job()
        read = [source for source in self.sources if source.name in spec.inputs] or self.sources
        news = [self._news_of(self.random.choice(read)) for _ in range(2)]
        return (Settle(), Trouble(spec.name, 1), news[0], Settle(), news[1], Pass(20.0), Settle())

    def _dies_working(self) -> tuple[Action, ...]:
        """The process dies in the midst of its work, once more after it was started anew."""
        deaths = [Doom(*self._commit()) for _ in range(self.random.randint(1, 2))]
        return (
            Settle(),
            self._news(),
            *(step for death in deaths for step in (death, Settle())),
            self._news(),
            Settle(),
        )

    def _whole_day(self) -> tuple[Action, ...] | None:
        """Every member's file of a day lands."""
        gated = [source for source in self.sources if source.members]
        if not gated:
            return None
        source, day = self.random.choice(gated), self.random.choice(DAYS)
        files = [self._put(source, day, store) for store in source.members]
        return (*files, LookAtFiles(source.name), Settle(), *((Crash(),) if self.random.random() < 0.3 else ()))

    def _late_then_trimmed(self) -> tuple[Action, ...] | None:
        """A day that was released is restated, another day lands, and what nobody needs is forgotten."""
        gated = [source for source in self.sources if source.members]
        if not gated:
            return None
        source, (day, other) = self.random.choice(gated), self.random.sample(DAYS, 2)
        look = (LookAtFiles(source.name), Settle())
        first, second = ([self._put(source, each, store) for store in source.members] for each in (day, other))
        late = self._put(source, day, source.members[0])
        return (*first, *look, late, *look, *second, *look, Trim(), Settle())

    def _commit(self) -> tuple[str, bool, int]:
        random = self.random
        return random.choice(("tables", "tables", "ledger")), random.random() < 0.6, random.choice((1, 1, 2))

    def _job(self) -> JobSpec:
        return self.random.choice(list(self.jobs.values()))

    def _news(self) -> Action:
        return self._news_of(self.random.choice(self.sources))

    def _news_of(self, source: SourceSpec) -> Action:
        told = self.random.choice(TOLD)
        if source.kind == "external":
            return Touch(source.name, told)
        if source.kind == "files":
            return self._file(source, told)
        count = self.random.choice((1, 1, 2, 3, 5))
        return Emit(source.name, tuple(self._event(source) for _ in range(count)), told)

    def _event(self, source: SourceSpec) -> tuple[str, int | None, int]:
        random = self.random
        k, v = random.choice(KEYS), self._value()
        if source.kind == "append":
            return k, v, random.choice((0, 0, -600, 60))
        self.version += 1
        stale = random.random() < 0.15
        return k, None if random.random() < 0.15 else v, self.version - (random.randrange(6) if stale else 0)

    def _file(self, source: SourceSpec, told: str) -> Action:
        random = self.random
        if random.random() < 0.4:
            return LookAtFiles(source.name, told, random.choice((1, 2)))
        day, store = random.choice(DAYS), random.choice(source.members or ("s1", "s2"))
        if random.random() < 0.1:
            return RemoveFile(source.name, day, store)
        if random.random() < 0.05:
            return PutFile(source.name, day, store, None)
        return self._put(source, day, store)

    def _put(self, source: SourceSpec, day: str, store: str) -> PutFile:
        rows = tuple((self.random.choice(KEYS), self._value()) for _ in range(self.random.randrange(4)))
        return PutFile(source.name, day, store, rows)

    def _value(self) -> int:
        """A value, not seldom one that some job cannot process."""
        poisons = [spec.poison for spec in self.jobs.values() if spec.poison >= 0]
        if poisons and self.random.random() < 0.1:
            return self.random.choice(poisons)
        return self.random.randrange(30)

    def _meanwhile(self) -> Action | None:
        if self.random.random() < 0.5:
            return Meanwhile(self.random.randrange(3))
        news = self._news()
        return Meanwhile(0, news) if isinstance(news, (Emit, Touch)) else None

    def _change_mode(self) -> Action:
        spec = self._draw_pace(self._job())
        self.jobs[spec.name] = spec
        return Define(spec)

    def _change_transform(self) -> Action | None:
        random = self.random
        spec = self._job()
        if spec.to_topic or spec.takes == "run":
            return None
        has_outside_readers = any(
            spec.output in other.inputs and (other.takes == "run" or other.to_topic) for other in self.jobs.values()
        )
        spec = replace(
            spec,
            factor=random.randint(1, 3),
            poison=random.randrange(13) if random.random() < 0.3 else -1,
            is_wide=not has_outside_readers and not self.caps and random.random() < 0.4,
        )
        self.jobs[spec.name] = spec
        return Define(spec)

    def _rename(self) -> Action | None:
        spec = self._job()
        if spec.takes == "run" or spec.to_topic:
            return None
        self.renamed += 1
        del self.jobs[spec.name]
        after = replace(spec, name=f"{spec.name.split('_')[0]}_{self.renamed}", factor=self.random.randint(1, 3))
        self.jobs[after.name] = after
        return Rename(spec.name, after)
