"""Which profile a host gets when nobody named one: a proposal with its reasons, never a decision.

Whoever installs confirms it; what is proposed because a GPU is broken must not be taken unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aibox import hardware
from aibox.errors import BadUsage, Fault
from aibox.hardware import Hardware, Machine, Match
from aibox.profile import Profile, Requires, Runtime


@dataclass(frozen=True, slots=True)
class Candidate:
    """A profile that could be installed: one of the checkout, or one that a bundle carries."""

    name: str
    title: str
    runtime: Runtime
    requires: Requires | None
    hardware: Hardware | None

    @classmethod
    def of(cls, profile: Profile) -> Candidate:
        """The candidate that a profile file describes."""
        return cls(profile.name, profile.title, profile.runtime, profile.requires, profile.hardware)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One profile against this host."""

    name: str
    title: str
    match: Match

    def __str__(self) -> str:
        told = self.match.reasons or ("fits", *self.match.notes)
        return f"{self.name}: {'; '.join(told)}"

    def as_json(self) -> dict[str, object]:
        """For scripts: whether it fits, and why."""
        return {
            "name": self.name,
            "fits": self.match.fits,
            "reasons": list(self.match.reasons),
            "notes": list(self.match.notes),
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """The profile that fits best (None: none does), and every profile's judgement, best first."""

    chosen: Judgement | None
    others: tuple[Judgement, ...]
    machine: Machine

    def lines(self) -> tuple[str, ...]:
        """For people: what the host has, the choice, and why not the others."""
        gpus = [f"  GPU {number}: {gpu}" for number, gpu in enumerate(self.machine.gpus)]
        return (
            "this host has" + (":" if gpus else " no NVIDIA GPU"),
            *gpus,
            *(f"  {problem}" for problem in self.machine.problems),
            *([f"proposed: {self.chosen}"] if self.chosen else ["no profile fits this host"]),
            *(
                f"  not {judged}" if not judged.match.fits else f"  or {judged}"
                for judged in self.others
            ),
        )

    def as_json(self) -> dict[str, object]:
        """For scripts: part of the error `profile-missing`."""
        return {
            "profile": self.chosen.name if self.chosen else None,
            "judged": [one.as_json() for one in (*_only(self.chosen), *self.others)],
        }


class ProfileMissing(BadUsage):
    """A fresh host and no profile named. Carries the proposal, for whoever may ask a person."""

    def __init__(self, proposal: Proposal) -> None:
        hint = (
            f"take it with: ./aibox install --profile {proposal.chosen.name}"
            if proposal.chosen
            else "see what each needs with: ./aibox profiles"
        )
        super().__init__(
            "profile-missing",
            "\n".join(
                ("there is no box yet, so say which profile it shall have", *proposal.lines())
            ),
            hint=hint,
            fault=Fault.YOU,
        )
        self.proposal = proposal

    def as_json(self) -> dict[str, object]:
        """The contract of errors, and the proposal."""
        return {**super().as_json(), "proposal": self.proposal.as_json()}


def propose(candidates: Iterable[Candidate], machine: Machine) -> Proposal:
    """Judge every candidate and choose one of those that fit.

    The one that uses most GPUs; among these the one that asks most of each; without GPUs the one
    that asks most of the host (so `cpu` before `local`, for root). Equal ones by name.
    """
    judged = sorted(((one, judge(one, machine)) for one in candidates), key=_rank)
    told = [Judgement(one.name, one.title, found) for one, found in judged]
    chosen = next((one for one in told if one.match.fits), None)
    return Proposal(chosen, tuple(one for one in told if one is not chosen), machine)


def judge(candidate: Candidate, machine: Machine) -> Match:
    """One candidate against this host: its GPUs, its processor, its memory, and who installs."""
    found = hardware.match(candidate.hardware, machine)
    required = candidate.requires
    more = (
        *(_reasons(required, machine) if required else ()),
        *_needs_root(candidate, machine),
    )
    return Match((*found.reasons, *more), found.notes)


def _reasons(required: Requires, machine: Machine) -> Iterator[str]:
    if machine.architecture not in required.architectures:
        yield f"needs {' or '.join(required.architectures)}; this is {machine.architecture}"
    if machine.memory_mib and machine.memory_mib < required.memory_mib_min:
        yield f"needs {required.memory_mib_min} MiB of memory; the host has {machine.memory_mib}"


def _needs_root(candidate: Candidate, machine: Machine) -> Iterator[str]:
    if candidate.runtime is Runtime.CONTAINER and not machine.root:
        yield f"needs root: sudo ./aibox install --profile {candidate.name}"


def _rank(judged: tuple[Candidate, Match]) -> tuple[int, int, int, int, str]:
    """Best first; of those that do not fit the ones that lack least."""
    candidate, found = judged
    wanted, required = candidate.hardware, candidate.requires
    return (
        len(found.reasons),
        -(wanted.count if wanted else 0),
        -(wanted.memory_mib_min if wanted else 0),
        -(required.memory_mib_min if required else 0),
        candidate.name,
    )


def _only(judged: Judgement | None) -> tuple[Judgement, ...]:
    return () if judged is None else (judged,)
