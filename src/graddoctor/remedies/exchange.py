"""Edits that put another nonlinearity in the place of some, module or call, and of no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from graddoctor.remedies.anatomy import Anatomy, Site, anatomy
from graddoctor.remedies.edit import Edit, edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.activations import swap_calls, swap_calls_at_run, swap_modules
from graddoctor.remedies.tracing import rewritable
from graddoctor.train import build_model

Calls = dict[str, tuple[int | str, ...]]


@dataclass(frozen=True)
class Replacement:
    """What is put in the place of a nonlinearity.

    Attributes
    ----------
    kind
        What a survey calls it; ``""`` for nothing.
    module
        The class of its module.
    function
        Its name in ``torch.nn.functional``; ``""`` where it can be a module only, as one with parameters can,
        ``None`` for nothing.
    options
        Of both.
    """

    kind: str
    module: Callable[..., nn.Module]
    function: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Replacement("", nn.Identity, None)


def exchange(facts: Facts, chosen: Collection[Site], new: Replacement) -> tuple[Edit, ...]:
    """Return the edits that exchange the chosen nonlinearities; ``()`` where it cannot be done without harm.

    Modules are exchanged where they stand. Calls are, where `torch.fx` can rewrite the forward that makes them, and
    else while it runs; the edit then names the lines that could be changed instead. What was to be exchanged and what
    was to stay is looked at in the treated network, before anything is promised.
    """
    body = facts.anatomy
    if body is None or not chosen:
        return ()
    names = _whole_modules(facts.model, body, chosen)
    covered = [site for site in chosen if _module_of(body, site) in names]
    calls = _calls(body, [site for site in chosen if site not in covered], covered)
    meant = [*covered, *(site for site in body.sites if site not in covered and _is_among(site, calls))]
    if (calls and new.function == "") or not (names or calls):
        return ()
    written = rewritable(facts, [owner for owner in calls if not _hooked(facts.model, body, owner)])
    first = _edits(body, names, calls, written, new)
    plans = [first, _edits(body, names, calls, frozenset(), new)] if written else [first]
    return next((edits for edits in plans if _as_wanted(facts, edits, meant, new)), ())


def _whole_modules(model: nn.Module, body: Anatomy, chosen: Collection[Site]) -> dict[str, tuple[str, ...]]:
    """Activation modules of which every call is meant, with all names that they go by.

    A module of the user's own that does nothing else is exchanged as a whole, and the factors in it go with it.
    """
    names: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(_module_of(body, site) for site in chosen):
        mine = [site for site in body.sites if _module_of(body, site) == name]
        module = model.get_submodule(name)
        if name and all(site in chosen for site in mine) and next(module.parameters(), None) is None:
            names[name] = tuple(other for other, m in model.named_modules(remove_duplicate=False) if m is module)
    return names


def _module_of(body: Anatomy, site: Site) -> str:
    """Name of the module that is nothing but this nonlinearity; ``""`` if there is none."""
    if site.module or site.owner is None:
        return site.module
    alone = not any(other.owner == site.owner and other.number for other in body.sites)
    return site.owner if site.owner in body.elementwise and alone else ""


def _calls(body: Anatomy, chosen: Collection[Site], covered: Collection[Site]) -> Calls:
    """Calls by the module that makes them: all of a name, or some by number."""
    calls: Calls = {}
    for owner in dict.fromkeys(site.owner for site in chosen if site.owner is not None):
        mine = [site for site in body.sites if site.owner == owner]
        stay = [site for site in mine if site not in chosen and site not in covered]
        names = {site.function for site in chosen if site.owner == owner}
        mixed = {site.function for site in stay}
        numbers = {site.number for site in chosen if site.owner == owner and site.function in mixed}
        apart = numbers - {site.number for site in stay}  # the same call cannot be exchanged and stay
        which: tuple[int | str, ...] = (*sorted(names - mixed), *sorted(apart))
        if which:
            calls[owner] = which
    return calls


def _hooked(model: nn.Module, body: Anatomy, owner: str) -> bool:
    """Whether a module of an activation that this owner calls has hooks, which a call written down would pass by."""
    modules = {site.module for site in body.sites if site.module and site.owner == owner}
    return any(value for name in modules for key, value in vars(model.get_submodule(name)).items() if "hooks" in key)


def _is_among(site: Site, calls: Calls) -> bool:
    return site.owner is not None and bool({site.number, site.function} & set(calls.get(site.owner, ())))


def _edits(
    body: Anatomy, names: Mapping[str, tuple[str, ...]], calls: Calls, written: Collection[str], new: Replacement
) -> tuple[Edit, ...]:
    edits = []
    options = dict(new.options)
    if names:
        every = tuple(name for group in names.values() for name in group)
        edits.append(Edit("model", swap_modules, {"names": every, "replacement": new.module, **options}))
    traced = {owner: which for owner, which in calls.items() if owner in written}
    watched = {owner: which for owner, which in calls.items() if owner not in written}
    for function, part in ((swap_calls, traced), (swap_calls_at_run, watched)):
        if part:
            arguments = {"calls": part, "activation": new.function, **options}
            note = _note(body, part, new) if function is swap_calls_at_run else ""
            edits.append(Edit("model", function, arguments, note))
    return tuple(edits)


def _note(body: Anatomy, calls: Calls, new: Replacement) -> str:
    lines = dict.fromkeys(site.location for site in body.sites if _is_among(site, calls))
    what = f"torch.nn.functional.{new.function}" if new.function else "nothing"
    return f"This can be written in your own code instead, with {what} in place of the call at {', '.join(lines)}."


def _as_wanted(facts: Facts, edits: Iterable[Edit], meant: Collection[Site], new: Replacement) -> bool:
    """Whether the treated network calls the new ones where they should be and the old ones everywhere else."""
    before = facts.anatomy
    assert before is not None  # noqa: S101 - seen by the caller
    treated = edited(facts.recipe, edits)
    try:
        after = anatomy(treated, build_model(treated), facts.batch)
    except Exception:  # noqa: BLE001 - whatever it is, such an edit is of no use
        return False
    places = {site.index for site in meant}
    kinds = [new.kind if site.index in places else site.kind for site in before.sites]
    return [kind for kind in kinds if kind] == [site.kind for site in after.sites]
