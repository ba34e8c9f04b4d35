"""The commands: what they are called, what they take, and which function does the work.

What a command needs is imported when it runs, so that the help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikelab.cli.commands import Command, Group
from spikelab.cli.config_app import build_config_app
from spikelab.cli.export_app import build_export_app
from spikelab.cli.options import (
    AsJson,
    Assignments,
    CleanDryRun,
    Cluster,
    ConfigFile,
    DoctorFolders,
    DryRun,
    Folders,
    Intermediate,
    OnError,
    OnErrorOption,
    Parallel,
    Probe,
    Recording,
    Recordings,
    Results,
    Shell,
    Sorter,
    UnusedOnError,
)
from spikelab.cli.output import exit_codes, make_console, say, say_whole

BEGIN, SORT, LOOK, PREPARE = "Begin here", "Sort", "Look and hand on", "Prepare"


def build_app() -> typer.Typer:
    """Return the command line with all its commands."""
    app = typer.Typer(
        cls=Group,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(spikelab)
    for panel, commands in (
        (BEGIN, (doctor, demo)),
        (SORT, (estimate, preflight, sort, multistream)),
        (LOOK, (streams, status, watch, report, compare, clean)),
        (PREPARE, (rt_sort_env, train_detector, completion)),
    ):
        for command in commands:
            app.command(cls=Command, rich_help_panel=panel)(command)
    app.add_typer(build_config_app(), name="config", rich_help_panel=SORT)
    app.add_typer(build_export_app(), name="export", rich_help_panel=LOOK)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(make_console(), f"spikelab {version('spikelab')}")
        raise typer.Exit


def spikelab(
    _version: Annotated[
        bool, typer.Option("--version", metavar="", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Sort batches of extracellular recordings: curated units and a report for each.

    Exit codes: 0 all sorted, 1 some failed, 2 wrong call, 3 the machine is not set up, 130 interrupted.
    """


@exit_codes()
def sort(
    files: Recordings,
    sorter: Sorter = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    results: Results = None,
    intermediate: Intermediate = None,
    on_error: OnErrorOption = OnError.CONTINUE,
    parallel: Parallel = None,
    cluster: Cluster = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sort recordings; the same command again continues.

    What is sorted already is only looked up, and what was stopped goes on from its last step.
    """
    from spikelab.cli.planning import Places
    from spikelab.cli.settings import read_config
    from spikelab.cli.sort import Options, read_cluster_file, sort_files

    settings = read_config(sorter, config, assignments or ())
    options = Options(
        settings,
        Places(results, intermediate),
        on_error,
        parallel,
        dry_run=dry_run,
        as_json=as_json,
        cluster=read_cluster_file(cluster),
    )
    raise typer.Exit(sort_files(files, options))


@exit_codes()
def multistream(
    file: Recording,
    streams: Annotated[
        str | None, typer.Option("--streams", metavar="A,B", help="Streams to sort, with commas.  (default: all)")
    ] = None,
    sorter: Sorter = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    results: Results = None,
    intermediate: Intermediate = None,
    on_error: OnErrorOption = OnError.CONTINUE,
    parallel: Parallel = None,
    cluster: Cluster = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sort the streams of one file, such as the wells of a plate.

    Each is a recording of its own, as with sort.
    """
    from spikelab.cli.planning import Places
    from spikelab.cli.settings import read_config
    from spikelab.cli.sort import Options, read_cluster_file, sort_streams

    settings = read_config(sorter, config, assignments or ())
    options = Options(
        settings,
        Places(results, intermediate),
        on_error,
        parallel,
        dry_run=dry_run,
        as_json=as_json,
        cluster=read_cluster_file(cluster),
    )
    chosen = None if streams is None else [name.strip() for name in streams.split(",") if name.strip()]
    raise typer.Exit(sort_streams(file, chosen, options))


@exit_codes()
def preflight(
    files: Recordings,
    sorter: Sorter = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    results: Results = None,
    intermediate: Intermediate = None,
    on_error: UnusedOnError = OnError.CONTINUE,
    parallel: Parallel = None,
    as_json: AsJson = False,
) -> None:
    """Check machine and recordings before a sort.

    Says how much disk, memory and time it will take, too. Takes the options of sort; of a file with several streams,
    all are checked.

    Exit code 3: something speaks against a start; with --set preflight_strict=true, a warning is enough.
    """
    from spikelab.cli.planning import Places
    from spikelab.cli.settings import read_config
    from spikelab.cli.sort import Options, preflight_files

    settings = read_config(sorter, config, assignments or ())
    options = Options(settings, Places(results, intermediate), on_error, parallel, dry_run=False, as_json=as_json)
    raise typer.Exit(preflight_files(files, options))


@exit_codes()
def estimate(
    files: Recordings,
    sorter: Sorter = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    results: Results = None,
    intermediate: Intermediate = None,
    parallel: Parallel = None,
    as_json: AsJson = False,
) -> None:
    """Say what sorts will take here: time, disk, memory.

    Each with its uncertainty. Reads 30 s of each recording; of a file with several streams, of all of them.

    Exit code 1: some recordings cannot be read.
    """
    from spikelab.cli.planning import Places
    from spikelab.cli.settings import read_config
    from spikelab.cli.sort import Options, estimate_files

    settings = read_config(sorter, config, assignments or ())
    places = Places(results, intermediate)
    options = Options(settings, places, OnError.CONTINUE, parallel, dry_run=False, as_json=as_json)
    raise typer.Exit(estimate_files(files, options))


@exit_codes()
def streams(
    file: Recording,
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """List the streams of a recording, such as wells or probes.

    With channels, duration, sampling rate and shanks of each. A flat binary file needs the settings that say what it
    holds, such as --set binary_fs=30000.
    """
    from spikelab.cli.look import tell_streams
    from spikelab.cli.settings import read_settings

    settings = read_settings(None, config, assignments or ())
    raise typer.Exit(tell_streams(file, settings.recording, as_json=as_json))


@exit_codes()
def status(folders: Folders, as_json: AsJson = False) -> None:
    """Say where sorts stand: running or not, how far, by whom."""
    from spikelab.cli.status import tell_status

    raise typer.Exit(tell_status(folders, as_json=as_json))


@exit_codes()
def watch(
    folders: Folders,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            show_default=False,
            help="Port to serve on.  (default: the same for the same folders, where it is free)",
        ),
    ] = 0,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Address to serve on; any but a loopback one needs a token."),
    ] = "127.0.0.1",
    private: Annotated[
        bool, typer.Option("--private", metavar="", help="Ask other users of this machine for a token, too.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in a browser.")] = False,
) -> None:
    """Show running sorts on a page in the browser.

    With steps, memory, logs and failures; it changes nothing. The page is served to this machine alone, to all of
    its users. With --private, or another --host, its address has a token, without which nobody gets an answer.
    """
    from spikelab.cli.live.command import watch_folders

    raise typer.Exit(watch_folders(folders, host=host, port=port, private=private, open_browser=open_browser))


@exit_codes()
def clean(folders: Folders, dry_run: CleanDryRun = False, as_json: AsJson = False) -> None:
    """Remove what no result needs, such as checkpoints.

    Copies, checkpoints and half-written files go. Results and finished stages stay, so that the same command still
    finds them.

    A sort that is running is left as it is; one that did not finish will repeat the stage that it was in.
    """
    from spikelab.cli.clean import tell_clean

    raise typer.Exit(tell_clean(folders, dry_run=dry_run, as_json=as_json))


@exit_codes()
def report(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Results folder.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a sort again, and sum it up."""
    from spikelab.cli.look import tell_report

    raise typer.Exit(tell_report(folder, as_json=as_json))


@exit_codes()
def compare(
    results: Annotated[
        list[Path], typer.Argument(exists=True, help="Results folders of one recording, or files of saved SpikeData.")
    ],
    delta_ms: Annotated[float, typer.Option("--delta-ms", metavar="MS", help="Spikes this close are one spike.")] = 0.4,
    min_agreement: Annotated[
        float, typer.Option("--min-agreement", metavar="SHARE", help="Lowest agreement of units that match (0-1).")
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.csv", dir_okay=False, help="Write the table of all units there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare sorts of one recording, of any sorters.

    Says which units several of them have found.
    """
    from spikelab.cli.compare import tell_agreement

    raise typer.Exit(tell_agreement(results, delta_ms=delta_ms, min_agreement=min_agreement, out=out, as_json=as_json))


@exit_codes()
def doctor(
    folders: DoctorFolders = None,
    bundle: Annotated[
        bool, typer.Option("--bundle", metavar="", help="Write a zip for a bug report into the current folder.")
    ] = False,
) -> None:
    """Check this machine: what is missing, and what to do.

    Exit code 0: Kilosort4 can sort here.

    Sorts in and below the folders are looked at, too: which run, which a crash has left, what only takes room.

    The bundle has what this says, versions, and of these sorts logs, settings, journals and reports. Home folders,
    user and host names are taken out; names of recordings are not.
    """
    from spikelab.cli.doctor import bundle_up, tell_health
    from spikelab.cli.facts import gather

    console = make_console()
    with console.status("Looking around, and importing torch"):
        facts = gather(folders or [Path()])
    code = tell_health(facts, console)
    if bundle:
        bundle_up(facts, console)
    raise typer.Exit(code)


@exit_codes()
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", file_okay=False, help="Where everything goes.")
    ] = Path("spikelab_demo"),
    duration: Annotated[
        float | None, typer.Option("--duration", metavar="S", min=10.0, help="Seconds a well.  (default: 60)")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Half a minute a well, for the impatient.")
    ] = False,
) -> None:
    """Simulate two wells, sort them, and compare with the truth."""
    from spikelab.cli.demo import length_s, run_demo

    raise typer.Exit(run_demo(folder.absolute(), length_s(duration, quick=quick)))


@exit_codes()
def train_detector(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="New folder for the model.")],
    results: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, file_okay=False, help="Results folders of spikelab, whose spikes to learn from."),
    ] = None,
    simulated: Annotated[
        Probe | None, typer.Option("--simulated", help="Learn from simulated recordings of this kind of probe, too.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=2.0, help="Seconds read of each recording.")
    ] = 30.0,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of training.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Decides everything random.")] = 0,
) -> None:
    """Train the detection model of RT-Sort, without a GPU.

    On sorted or simulated recordings, in minutes.
    """
    from spikelab.cli.training import Training, train

    raise typer.Exit(train(Training(folder.absolute(), tuple(results or ()), simulated, seconds, steps, seed)))


@exit_codes()
def rt_sort_env(
    folder: Annotated[Path, typer.Argument(help="Folder to build it in; a new one, or one that was begun.")],
) -> None:
    """Build and check the environment in which RT-Sort runs."""
    from spikelab.cli.rt_sort_env import build

    raise typer.Exit(build(folder.expanduser().absolute()))


@exit_codes()
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print what lets the Tab key complete commands.

    For bash: put eval "$(spikelab completion bash)" into ~/.bashrc

    For zsh: put eval "$(spikelab completion zsh)" into ~/.zshrc, below compinit

    For fish: spikelab completion fish > ~/.config/fish/completions/spikelab.fish
    """
    from spikelab.cli.completion import script

    say_whole(make_console(), script(shell.value))
