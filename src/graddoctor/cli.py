"""The command line: verbs and flags, handed on. Whatever needs torch is imported by the verb that needs it."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graddoctor.errors import GraddoctorError
from graddoctor.tracebacks import SWITCH, blame
from graddoctor.version import __version__

if TYPE_CHECKING:
    from graddoctor.show import AnyReport

BAD_USAGE, INTERRUPTED = 2, 130

app = typer.Typer(
    name="graddoctor",
    help="Find out why a neural network does not train.",
    epilog="Exit codes: 0 healthy, cured or as expected, 1 not so or not known, 2 bad usage or a crash, 130 by Ctrl-C.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="Write the report here too: .html, .md, .txt, .json, .svg, .png. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line each, never a traceback."""
    command = typer.main.get_command(app)
    try:  # not by calling the app: it would take an EOFError of the user's loader for Ctrl-D
        with command.make_context("graddoctor", list(sys.argv[1:] if arguments is None else arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; see graddoctor --help")
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader has gone, as `head` does; and Python must not flush into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD_USAGE
    except Exception as error:
        if os.environ.get(SWITCH, "0") != "0":
            raise
        return _fail(" ".join(str(error).split()) if isinstance(error, GraddoctorError) else blame(error))


def _show(report: AnyReport, *, json: bool, out: Sequence[Path], save: Callable[[Path], Any] | None = None) -> None:
    """Print a report and save it; what fails, the printing too, costs none of the other files."""
    from graddoctor.show import print_report, to_json

    try:
        if json:
            typer.echo(to_json(report))
        else:
            print_report(report)
    finally:
        write = save or functools.partial(_save, report)
        problems = {path: problem for path in out if (problem := _problem(write, path)) is not None}
    if problems:
        told = "; ".join(f"could not save {path}: {_reason(problem)}" for path, problem in problems.items())
        raise GraddoctorError(told) from next(iter(problems.values()))


def _save(report: AnyReport, path: Path) -> None:
    from graddoctor.show import save

    save(report, path)


def _problem(write: Callable[[Path], Any], path: Path) -> Exception | None:
    try:
        write(path)
    except Exception as problem:  # noqa: BLE001 - the training took minutes: whatever is wrong with one file, keep the rest
        return problem
    return None


def _reason(problem: Exception) -> str:
    return str(problem) if isinstance(problem, GraddoctorError) else f"{type(problem).__name__}: {problem}"


def _fail(message: str, code: int = BAD_USAGE) -> int:
    typer.echo(f"graddoctor: {message}", err=True)
    return code


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"graddoctor {__version__}")
        raise typer.Exit


@app.callback()
def graddoctor(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find out why a neural network does not train."""


@app.command()
def check(  # noqa: PLR0917 - one parameter a flag
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A Python file, FILE:NAME or MODULE:NAME that holds a recipe.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="What the file finds in sys.argv.")
    ] = None,
    out: Out = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="CONDITION", help="Do not look for this one. Repeatable.")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="SECONDS|5m", help="How long it may take.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Look at so many training steps at most.")] = None,
    experiments: Annotated[
        bool | None, typer.Option("--experiments/--no-experiments", help="Put suspicions to the proof, or not.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write what is observed into this new file as it happens.")
    ] = None,
    json: Json = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Train with this seed.")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Train here: cpu, cuda, cuda:1, mps.")] = None,
) -> int:
    """Train a recipe, and find out what is wrong with its training. Defaults come from [tool.graddoctor]."""
    from graddoctor.config import read_settings

    settings = read_settings().overridden(budget=budget, steps=steps, ignore=ignore, experiments=experiments, out=out)
    changes = {"seed": seed, "device": device}

    from graddoctor.check import check as examine
    from graddoctor.recipe import importable, load_recipe, require_device
    from graddoctor.show import Progress, check_writable

    for path in settings.out:
        check_writable(path)
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext(), importable(file):
        recipe = load_recipe(file, arguments or ())
        recipe = recipe.with_(**{name: value for name, value in changes.items() if value is not None})
        require_device(recipe.device)
        with Progress() as progress:
            checkup = examine(
                recipe,
                budget=settings.budget,
                steps=settings.steps,
                experiments=settings.experiments,
                ignore=settings.ignore,
                progress=progress,
                recording=record,
            )
    _show(checkup.report(), json=json, out=settings.out)
    return checkup.exit_code


@app.command()
def fix(  # noqa: PLR0917 - one parameter a flag
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A Python file, FILE:NAME or MODULE:NAME that holds a recipe.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="What the file finds in sys.argv.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A .py takes the change as plain PyTorch, and a .diff beside it; .html, .md, … take the report.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Leave alone: architecture, weights, optimizer, loss, data. Repeatable."),
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="SECONDS|5m", help="How long it may take.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="A run takes so many training steps at most.")] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Fresh seeds of the proof (5).")] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Train in so many processes side by side.")] = 0,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Train on Ray: local, auto or an address.")] = None,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of each training.")] = 1,
    trials: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Keep finished trials here, and go on where it stopped.")
    ] = None,
    json: Json = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Train with this seed.")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Train here: cpu, cuda, cuda:1, mps.")] = None,
) -> int:
    """Change what keeps a recipe from training, and prove on fresh seeds that the change works."""
    from graddoctor.config import read_settings

    settings = read_settings().overridden(budget=budget, steps=steps)
    changes = {"seed": seed, "device": device}

    from graddoctor.fix import fix as treat
    from graddoctor.prove.trials_file import trials_file
    from graddoctor.recipe import importable, load_recipe, require_device
    from graddoctor.show import Progress, check_writable
    from graddoctor.treat.treatment import SEEDS

    for path in out or ():
        check_writable(path, also=(".py",))
        if path.resolve() == Path(file.partition(":")[0]).resolve():
            raise GraddoctorError(f"--out {path} is the recipe's own file: choose another one, such as treated.py")
    with trials_file(trials, file) as book:
        with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext(), importable(file):
            recipe = load_recipe(file, arguments or ())
            recipe = recipe.with_(**{name: value for name, value in changes.items() if value is not None})
            require_device(recipe.device)
            with _plain_warnings(), Progress() as progress:
                cure = treat(
                    recipe,
                    keep=keep or (),
                    seeds=SEEDS if seeds is None else seeds,
                    budget=settings.budget,
                    steps=settings.steps,
                    workers=workers,
                    ray=_cluster(ray),
                    threads=threads,
                    trials=book.path,
                    progress=progress,
                )
            report = cure.report()
        done = cure.exit_code == 0 or not cure.aborted
        try:
            _show(report, json=json, out=out or (), save=cure.save)
            book.finished = done
        except BrokenPipeError:  # whoever read it has seen enough
            book.finished = done
            raise
    return cure.exit_code


def _cluster(ray: str | None) -> str | bool:
    """What `--ray` asks for, as the library takes it: here, at an address, or not at all."""
    return ray is not None and (ray == "local" or ray)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print what graddoctor itself warns of as one line, like its errors; others' warnings look as they always do."""
    usual: Any = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], filename: str, *more: Any, **named: Any) -> str:
        ours = Path(__file__).parent in Path(filename).parents
        return f"graddoctor: {message}\n" if ours else usual(message, category, filename, *more, **named)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


@app.command()
def predict(  # noqa: PLR0917 - one parameter a flag
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A Python file, FILE:NAME or MODULE:NAME; or --depth."),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="What the file finds in sys.argv.")
    ] = None,
    depth: Annotated[int | None, typer.Option(metavar="N", help="Layers of a plain stack, instead of a file.")] = None,
    activation: Annotated[str | None, typer.Option(metavar="NAME", help="Its activation (tanh).")] = None,
    weight_std: Annotated[
        float | None, typer.Option(metavar="X", help="Standard deviation of its weights x sqrt(fan_in) (1.0).")
    ] = None,
    bias_std: Annotated[float | None, typer.Option(metavar="X", help="And of its biases (0.0).")] = None,
    width: Annotated[int | None, typer.Option(metavar="N", help="Units of its layers (512).")] = None,
    out: Out = None,
    json: Json = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Build the network with this seed.")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Build it here: cpu, cuda, cuda:1, mps.")] = None,
) -> int:
    """Say how much gradient a network will lose, before a step of training; 1: more than three decades."""
    from graddoctor.predict import predict as foresee
    from graddoctor.recipe import importable, load_recipe
    from graddoctor.show import check_writable

    for path in out or ():
        check_writable(path)
    scales: dict[str, Any] = {"depth": depth, "width": width, "activation": activation}
    scales |= {"weight_std": weight_std, "bias_std": bias_std}
    changes = {name: value for name, value in (("seed", seed), ("device", device)) if value is not None}
    if file is None:
        if changes:
            raise GraddoctorError(f"--{next(iter(changes))} builds a network: give a file too")
        prediction = foresee(**scales)
    else:
        with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext(), importable(file):
            recipe = load_recipe(file, arguments or ()).with_(**changes)
            prediction = foresee(recipe, **scales)
    _show(prediction.report(), json=json, out=out or ())
    return prediction.exit_code


@app.command()
def lab(  # noqa: PLR0917 - one parameter a flag
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Experiments to run, or all; the list if left out.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: fewer settings and fewer seeds.")] = False,
    out: Out = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Draw every setting so often.")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Train in so many processes; one a core if left out.")
    ] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Train on Ray: local, auto or an address.")] = None,
    json: Json = False,
) -> int:
    """Put classic claims about deep networks to the test on this machine; 1: a verdict differs from the known one."""
    from graddoctor.lab import run
    from graddoctor.lab.listing import listing, listing_json, named
    from graddoctor.show import Progress, check_writable

    chosen = named(names or ())
    if not names:
        typer.echo(listing_json() if json else listing())
        return 0
    for path in out or ():
        check_writable(path)
    with Progress() as progress:
        done = run(
            *chosen,
            quick=quick,
            seeds=seeds,
            workers=workers,
            ray=_cluster(ray),
            progress=progress,
        )
    if not done.experiments:
        return _fail("interrupted", INTERRUPTED)
    _show(done, json=json, out=out or ())
    return INTERRUPTED if done.missing else done.exit_code


@app.command()
def explain(  # noqa: PLR0917 - one parameter a flag
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOPIC|FILE]", help="A condition, cause or remedy, or a saved checkup or cure (.json)."
        ),
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Tell it to a student, or to an engineer; both if left out.")
    ] = None,
    out: Out = None,
    show: Annotated[bool, typer.Option("--open", help="Make a page of it, and open it in the browser.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Compute pictures in so many processes; one a core.")
    ] = None,
    json: Json = False,
) -> int:
    """Explain a topic or a saved report; alone with --open or --out: the whole problem, as a page with pictures."""
    from graddoctor.explain import command
    from graddoctor.explain.listing import listing, listing_json
    from graddoctor.show import Progress, check_writable

    told = command.levelled(level)
    if what is None and told is not None:
        raise GraddoctorError("--level is for a topic or a saved report: name one")
    if what is None and not (out or show):
        typer.echo(listing_json() if json else listing())
        return 0
    paths = command.pages(out or (), show=show, story=what is None)
    for path in paths:
        check_writable(path)
    if what is None:
        from graddoctor.explain.story import save_story

        with Progress() as progress:
            save_story(paths, workers=workers, progress=progress)
    else:
        _show(command.explanation(what, told), json=json, out=paths)
    if show:
        typer.echo(command.opened(paths), err=True)
    return 0


@app.command()
def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `check` or `fix --out FILE.json` has written.")],
    out: Out = None,
    json: Json = False,
) -> int:
    """Show a saved checkup or cure again, or write it in another form."""
    from graddoctor.show import check_writable, load

    for path in out or ():
        check_writable(path)
    _show(load(file), json=json, out=out or ())
    return 0


@app.command()
def watch(
    file: Annotated[Path, typer.Argument(metavar="RECORDING", help="The file that a training is recorded into.")],
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print the newest numbers and end.")] = False,
) -> int:
    """Follow a recording while it is written: the newest numbers, until Ctrl-C."""
    from graddoctor.show.follow import follow

    follow(file, typer.echo, every=every, once=once)
    return 0
