"""Remedies as source: a module of plain functions over the user's own builder, which needs no graddoctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graddoctor.errors import GraddoctorError
from graddoctor.recipe import Recipe
from graddoctor.remedies.constructor import PARAMETERS_OF, Constructor, constructor
from graddoctor.remedies.edit import Edit, Part, by_part
from graddoctor.remedies.gather import gap_before, helpers, imports, is_plain
from graddoctor.remedies.literals import INDENT, Text, call, name_in_torch, wrapped
from graddoctor.remedies.remedy import Remedy


def write_source(recipe: Recipe, remedies: Sequence[Remedy]) -> str:
    """Write remedies as a module: ``treat_model(model)``, ``make_optimizer(model)`` and what else changes.

    Where they change it there are ``loss(model, batch, original)``, ``clip(parameters)``, ``batches(original)``,
    ``make_scheduler(optimizer)`` and ``EPOCHS`` too; ``make_scheduler = None`` and ``clip = None`` stand for what is
    left out.
    An optimizer that is not from ``torch.optim`` makes it ``make_optimizer(model, original)``.

    Parameters
    ----------
    recipe
        The recipe as given: its network and optimizer are built, to see what the treated optimizer holds.

    Raises
    ------
    GraddoctorError
        A remedy cannot be written down; the message says which.
    """
    for remedy in (part for whole in remedies for part in whole.each):
        _check(remedy)
    parts = by_part(edit for remedy in remedies for edit in remedy.edits)
    optimizer = constructor(recipe, parts.get("model", []), parts.get("optimizer", []))
    used = _functions(parts, optimizer)
    blocks = [helpers(used)] if used else []
    blocks += [PARAMETERS_OF] if optimizer.names_parameters else []
    blocks += [_treat_model(parts.get("model", [])), _make_optimizer(optimizer)]
    blocks += [_WRITERS[part](parts[part]) for part in _WRITERS if part in parts]
    constants = _constants(parts)
    body = "\n\n\n".join(blocks)
    needed = imports(body, [function.__module__ for function in used])
    top = "\n\n".join(filter(None, (_docstring(remedies, parts, optimizer), needed, constants)))
    return f"{top}{gap_before(body)}{body}\n"


def _check(remedy: Remedy) -> None:
    """See that a remedy can be written down.

    Raises
    ------
    GraddoctorError
        It has no edits, or one whose function is neither plain nor torch's.
    """
    if not remedy.edits:
        msg = f"{remedy.name!r} cannot be written as source: it has no edits, only graddoctor can make this change"
        raise GraddoctorError(msg)
    for edit in remedy.edits:
        if edit.function is None or is_plain(edit.function):
            continue
        try:
            name_in_torch(edit.function)
        except GraddoctorError as error:
            where = f"{edit.function.__module__}.{getattr(edit.function, '__qualname__', edit.function)}"
            msg = f"{remedy.name!r} cannot be written as source: expected a function of plain PyTorch, got {where}"
            raise GraddoctorError(msg) from error


def _functions(parts: dict[Part, list[Edit]], optimizer: Constructor) -> list[Callable[..., Any]]:
    """The plain functions that are called, in their order."""
    calls = [*parts.get("model", []), *optimizer.edits]
    calls += [edit for part in ("loss", "batches") for edit in parts.get(part, [])]
    calls += [parts[part][-1] for part in ("clip", "scheduler") if part in parts]
    return list(dict.fromkeys(e.function for e in calls if e.function is not None and is_plain(e.function)))


def _call(edit: Edit, *positional: str) -> Text:
    assert edit.function is not None  # noqa: S101 - asked of edits that call something
    name = edit.function.__name__ if is_plain(edit.function) else name_in_torch(edit.function)
    return call(name, *positional, **edit.arguments)


def _comment(note: str, level: int = 1) -> list[str]:
    indent = INDENT * level
    return wrapped(note.split(), f"{indent}# ", f"{indent}# ") if note else []


def _chain(edits: Iterable[Edit], name: str, *others: str) -> list[str]:
    """Lines that hand a thing through one edit after another, and return it."""
    edits, lines = list(edits), []
    for edit in edits:
        before = f"{INDENT}return " if edit is edits[-1] else f"{INDENT}{name} = "
        lines += [*_comment(edit.note), _call(edit, name, *others).laid_out(1, before)]
    return lines


def _treat_model(edits: Sequence[Edit]) -> str:
    told = "Change a network as your own function builds it, before it is moved or trained."
    told = told if edits else "Return the network: it stays as it is."
    lines = _chain(edits, "model") or [f"{INDENT}return model"]
    return "\n".join(["def treat_model(model: nn.Module) -> nn.Module:", f'{INDENT}"""{told}"""', *lines])


def _make_optimizer(optimizer: Constructor) -> str:
    if optimizer.expression is None:
        return "\n".join(
            [
                "def make_optimizer(",
                f"{INDENT}model: nn.Module, original: Callable[[nn.Module], torch.optim.Optimizer]",
                ") -> torch.optim.Optimizer:",
                f'{INDENT}"""Build the optimizer of the treated network; `original` is your own function that does."""',
                *([f"{INDENT}optimizer = original(model)"] if optimizer.edits else [f"{INDENT}return original(model)"]),
                *_chain(optimizer.edits, "optimizer", "model"),
            ]
        )
    before = f"{INDENT}optimizer = " if optimizer.edits else f"{INDENT}return "
    return "\n".join(
        [
            "def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:",
            f'{INDENT}"""Build the optimizer of the treated network."""',
            *([optimizer.groups.laid_out(1, f"{INDENT}groups = ")] if optimizer.groups else []),
            optimizer.expression.laid_out(1, before),
            *_chain(optimizer.edits, "optimizer", "model"),
        ]
    )


def _loss(edits: Sequence[Edit]) -> str:
    lines = [
        "def loss(model: nn.Module, batch: Any, original: Callable[..., torch.Tensor]) -> torch.Tensor:",
        f'{INDENT}"""Compute the loss of a batch; `original` is your own loss of (model, batch)."""',
    ]
    inner = "original"
    for number, edit in enumerate(edits[:-1], 1):
        name = f"changed_{number}"
        lines += [
            "",
            f"{INDENT}def {name}(model: nn.Module, batch: Any) -> torch.Tensor:",
            *_comment(edit.note, 2),
            _call(edit, "model", "batch", inner).laid_out(2, f"{INDENT * 2}return "),
        ]
        inner = name
    lines += [""] if len(edits) > 1 else []
    last = edits[-1]
    return "\n".join(
        [*lines, *_comment(last.note), _call(last, "model", "batch", inner).laid_out(1, f"{INDENT}return ")]
    )


def _batches(edits: Sequence[Edit]) -> str:
    return "\n".join(
        [
            "def batches(original: Iterable[Any] | Callable[[], Iterable[Any]]) -> Iterable[Any]:",
            f'{INDENT}"""Return the batches of a run; `original` is your own loader, or a function that makes it."""',
            f"{INDENT}source = original() if callable(original) else original",
            *_chain(edits, "source"),
        ]
    )


def _clip(edits: Sequence[Edit]) -> str:
    if edits[-1].function is None:
        return _nothing(edits[-1], "clip = None")
    lines = _chain(edits[-1:], "parameters")
    lines[-1] = lines[-1].replace(f"{INDENT}return ", INDENT, 1)
    return "\n".join(
        [
            "def clip(parameters: Iterable[torch.Tensor]) -> None:",
            f'{INDENT}"""Clip the gradients, between the backward pass and the step."""',
            *lines,
        ]
    )


def _make_scheduler(edits: Sequence[Edit]) -> str:
    if edits[-1].function is None:
        return _nothing(edits[-1], "make_scheduler = None")
    return "\n".join(
        [
            "def make_scheduler(",
            f"{INDENT}optimizer: torch.optim.Optimizer,",
            ") -> torch.optim.lr_scheduler.LRScheduler:",
            f'{INDENT}"""Build the schedule of the learning rate; it is stepped once a batch."""',
            *_chain(edits[-1:], "optimizer"),
        ]
    )


def _nothing(edit: Edit, line: str) -> str:
    return "\n".join([*_comment(edit.note or "Left out.", 0), line])


def _constants(parts: dict[Part, list[Edit]]) -> str:
    lines = []
    if "epochs" in parts:
        last = parts["epochs"][-1]
        lines += [*_comment(last.note, 0), f"EPOCHS = {last.arguments['epochs']}"]
    if "precision" in parts:
        lines += [*_comment(parts["precision"][-1].note or "Train without autocast.", 0), "PRECISION = None"]
    return "\n".join(lines)


def _docstring(remedies: Sequence[Remedy], parts: dict[Part, list[Edit]], optimizer: Constructor) -> str:
    lines = ['"""A treatment of your network, as plain PyTorch.', ""]
    if not remedies:
        lines += ["Nothing is changed."]
    for remedy in (part for whole in remedies for part in whole.each):
        source = f" ({remedy.source})" if remedy.source else ""
        cost = f"; it costs {remedy.cost}" if remedy.cost else ""
        words = f"{remedy.name}{source}{cost}".replace("\\", "/").replace('"', "'").split()
        lines += wrapped(words, "- ", "  ")
    lines += ["", "In your own training script:", ""]
    lines += [f"{INDENT}{line}" for line in _usage(parts, optimizer)]
    return "\n".join([*lines, '"""'])


def _usage(parts: dict[Part, list[Edit]], optimizer: Constructor) -> list[str]:
    """How the functions are called."""
    lines = ["model = treat_model(build_model())"]
    own = ", build_optimizer" if optimizer.expression is None else ""
    lines += [f"optimizer = make_optimizer(model{own})"]
    if "scheduler" in parts:
        lines += ["scheduler = make_scheduler(optimizer)" if parts["scheduler"][-1].function else "scheduler = None"]
    if "batches" in parts:
        lines += ["loader = batches(loader)"]
    if "loss" in parts:
        lines += ["loss(model, batch, your_loss).backward()"]
    if "clip" in parts and parts["clip"][-1].function:
        lines += ["clip(model.parameters())"]
    return lines


_WRITERS: dict[Part, Callable[[Sequence[Edit]], str]] = {
    "loss": _loss,
    "clip": _clip,
    "scheduler": _make_scheduler,
    "batches": _batches,
}
