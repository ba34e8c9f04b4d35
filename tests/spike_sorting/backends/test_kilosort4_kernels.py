"""Our functions find what upstream's find, on the same input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("kilosort")

import kilosort
import torch
from kilosort import CCG, clustering_qr, io, preprocessing, spikedetect, swarmsplitter, template_matching
from kilosort.parameters import DEFAULT_SETTINGS

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.backends.kilosort4.kernels import VERIFIED, accelerated, seeding
from spikelab.spike_sorting.backends.kilosort4.kernels.clustering import cluster, repeat_until_settled
from spikelab.spike_sorting.backends.kilosort4.kernels.convolution import Responses
from spikelab.spike_sorting.backends.kilosort4.kernels.correlograms import correlogram_beside
from spikelab.spike_sorting.backends.kilosort4.kernels.filtering import BatchFilter, make_high_pass, median_of_channels
from spikelab.spike_sorting.backends.kilosort4.kernels.matching import run_matching
from spikelab.spike_sorting.backends.kilosort4.kernels.snippets import extract_snippets
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

CPU = torch.device("cpu")

# ------------------------------------------------------------------------------------------------- inputs


def grid(n_columns: int, n_rows: int, pitch_um: float = 17.5) -> np.ndarray:
    x, y = np.meshgrid(np.arange(n_columns), np.arange(n_rows))
    return pitch_um * np.stack([x.ravel(), y.ravel()], 1).astype("float32")


LAYOUTS = {
    "grid": grid(4, 6),
    "column": grid(1, 14, 50.0),
    "tetrode": grid(2, 2, 25.0),
    "one": grid(1, 1),
    "shanks": np.concatenate([grid(2, 6, 20.0) + np.float32([250 * shank, 0]) for shank in range(3)]),
}


@dataclass(frozen=True)
class Case:
    """One input: contacts, settings, and what the batches hold."""

    layout: str = "grid"
    settings: dict[str, Any] = field(default_factory=dict)
    content: str = "spikes"
    fs_Hz: float = 20_000.0
    n_batches: int = 2
    batch_size: int = 6_000


CASES = {
    "grid": Case(),
    "noise alone": Case(content="noise"),
    "zeros": Case(content="zeros"),
    "some batches zero": Case(content="gaps", n_batches=3),
    "correlated noise above the threshold": Case(content="loud"),
    "one channel": Case("one"),
    "fewer channels than nearest_chans": Case("tetrode"),
    "one column": Case("column"),
    "several shanks": Case("shanks"),
    "low threshold": Case(settings={"Th_universal": 5.0}),
    "few neighbours": Case(settings={"nearest_chans": 3, "nearest_templates": 4, "template_sizes": 2}),
    "templates from data": Case(settings={"templates_from_data": True}, n_batches=1, batch_size=20_000),
    "40 kHz": Case(settings={"templates_from_data": True, "nt": 81}, fs_Hz=40_000.0, n_batches=1, batch_size=20_000),
    "short batches": Case(batch_size=700, n_batches=5),
}


class Batches:
    """Stands in for the open recording: whitened batches made from a seed."""

    def __init__(self, case: Case, ops: dict[str, Any]) -> None:
        self.n_batches, self.batch_downsampling = case.n_batches, 1
        self._made = [self._make(case, ops, number) for number in range(case.n_batches)]

    def padded_batch_to_torch(self, ibatch: int, ops: object = None) -> torch.Tensor:
        return self._made[ibatch].clone()

    @staticmethod
    def _make(case: Case, ops: dict[str, Any], number: int) -> torch.Tensor:
        rng = np.random.default_rng(number)
        n_times = case.batch_size + 2 * ops["nt"]
        X = rng.standard_normal((len(ops["xc"]), n_times))
        if case.content == "zeros" or (case.content == "gaps" and number == 1):
            X[:] = 0
        elif case.content == "loud":
            X += 3 * rng.standard_normal(n_times)
        elif case.content != "noise":
            _add_spikes(X, ops, rng)
        return torch.from_numpy(X.astype("float32"))


def _add_spikes(X: np.ndarray, ops: dict[str, Any], rng: np.random.Generator) -> None:
    """Add spikes of a few units, overlapping in time and across the ends of the batch."""
    shapes = waveforms(np.arange(60) / (ops["fs"] / 20_000))
    contacts = np.stack([ops["xc"], ops["yc"]], 1)
    for unit in range(6):
        place = contacts[rng.integers(len(contacts))] + rng.normal(0, 8, 2)
        reach = np.exp(-((contacts - place) ** 2).sum(1) / (2 * 20.0**2))
        waveform = rng.uniform(15, 50) * np.outer(reach, shapes[unit])
        for start in rng.integers(0, X.shape[1] - 60, max(1, X.shape[1] // 500)):
            X[:, start : start + 60] += waveform


def waveforms(steps: np.ndarray) -> np.ndarray:
    """Return six shapes of a spike, of norm one, shape (6, n_steps)."""
    made = [
        np.exp(-((steps - 20) ** 2) / width) * np.cos((steps - 20) / period + phase)
        for width, period, phase in [(18, 9, 3), (40, 4, 3), (60, 5, 4), (30, 3, 2), (90, 6, 3.5), (25, 4, 0)]
    ]
    return np.stack([one / np.linalg.norm(one) for one in made])


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """Upstream's built-in templates are downloaded: other ones stand in for them."""
    shapes = waveforms(np.arange(61.0))
    components = np.linalg.svd(shapes)[2][:6]
    tensors = tuple(torch.from_numpy(values.astype("float32")) for values in (components, shapes))
    monkeypatch.setattr(spikedetect, "get_waves", lambda ops, device: tensors)


def ops_of(case: Case) -> dict[str, Any]:
    contacts = LAYOUTS[case.layout]
    settings = {
        **DEFAULT_SETTINGS,
        "templates_from_data": False,
        "nt": 61,
        "fs": case.fs_Hz,
        "batch_size": case.batch_size,
        **case.settings,
    }
    settings["nearest_chans"] = min(settings["nearest_chans"], len(contacts))
    settings["nt0min"] = int(20 * settings["nt"] / 61)
    ops = {**settings, "settings": settings, "Nbatches": case.n_batches, "Nchan": len(contacts)}
    ops |= {"xc": contacts[:, 0], "yc": contacts[:, 1]}
    return {**ops, "kcoords": (contacts[:, 0] // 200).astype(int)}


def detected(case: Case, ours: bool) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    np.random.seed(1)  # noqa: NPY002 - upstream's KMeans draws from it
    ops = ops_of(case)
    with accelerated(ours) as names:
        assert bool(names) is ours
        return spikedetect.run(ops, Batches(case, ops), device=CPU)


# ---------------------------------------------------------------------------------------------- detection


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", CASES)
def test_universal_detection_finds_the_same_spikes(name):
    """Times, positions, templates and features equal upstream's to the bit; amplitude and depth to rounding."""
    theirs, their_features, _ = detected(CASES[name], ours=False)
    ours, our_features, _ = detected(CASES[name], ours=True)
    assert len(theirs) > 10 or CASES[name].content in {"noise", "zeros"}
    exact, rounded = [0, 3, 4, 5], [1, 2]
    np.testing.assert_array_equal(ours[:, exact], theirs[:, exact])
    np.testing.assert_allclose(ours[:, rounded], theirs[:, rounded], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(our_features, their_features)


@pytest.mark.parametrize("n_times", [1, 31, 32, 33, 5000])
@pytest.mark.parametrize("n_taps", [1, 61])
def test_responses_are_a_convolution(n_times, n_taps):
    """Every response equals torch's convolution, wherever blocks and chunks end."""
    rng = torch.Generator().manual_seed(0)
    X, W = torch.randn(70, n_times, generator=rng), torch.randn(6, n_taps, generator=rng)
    responses = Responses(X, W)
    at = torch.arange(n_times)
    found = responses.at(torch.arange(70)[:, None].expand(70, n_times), at)
    expected = torch.nn.functional.conv1d(X[:, None], W[:, None], padding=n_taps // 2)
    torch.testing.assert_close(found, expected.transpose(0, 1), rtol=1e-4, atol=1e-5)
    for number, chunk in enumerate(responses.chunks()):
        template, time = responses.locate(torch.arange(chunk.shape[1]))
        time = time + number * responses.span
        inside = time < n_times
        torch.testing.assert_close(chunk[:, inside], expected[:, template[inside], time[inside]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.5, 4.0, 1e9])
@pytest.mark.parametrize("name", ["grid", "one channel", "several shanks", "zeros"])
def test_snippets_are_the_same(name, threshold):
    """The waveforms of isolated peaks, and their order, equal upstream's to the bit."""
    case = CASES[name]
    X = Batches(case, ops_of(case)).padded_batch_to_torch(0)[:, :3000]
    arguments = {"nt": 61, "twav_min": 20, "Th_single_ch": threshold, "device": CPU}
    theirs, ours = spikedetect.extract_snippets(X, **arguments), extract_snippets(X, **arguments)
    assert len(theirs) or threshold != 4.0 or case.content == "zeros"
    assert ours.shape == theirs.shape
    assert torch.equal(ours, theirs)


# --------------------------------------------------------------------------------------------- clustering


@pytest.mark.parametrize("options", [{}, {"lam": 1}, {"lam": 1, "nskip": 5, "max_sub": 100}, {"niter": 2}], ids=str)
@pytest.mark.parametrize("n_blobs", [1, 7])
def test_clusters_are_the_same(n_blobs, options):
    """Clusters of spikes and of the subset, the graph and the random generators' state equal upstream's."""
    rng = np.random.default_rng(2)
    features = rng.normal(0, 4, (n_blobs, 12))[rng.integers(n_blobs, size=1500)] + rng.normal(size=(1500, 12))
    features = torch.from_numpy(features.astype("float32"))
    arguments = {"nclust": 30, "device": CPU, **options}
    theirs = (*clustering_qr.cluster(features, **arguments), torch.get_rng_state())
    ours = (*cluster(features, **arguments), torch.get_rng_state())
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert (ours[2] != theirs[2]).nnz == 0
    assert torch.equal(ours[3], theirs[3])
    assert torch.equal(ours[4], theirs[4])


@pytest.mark.parametrize("table_at_most", [0, 5000], ids=["computed anew", "from a table"])
@pytest.mark.parametrize("n_columns", [24, 60, 180])
def test_first_centres_are_the_same(n_columns, table_at_most, monkeypatch):
    """Centres of spikes that have features on some channels alone equal upstream's, and so do the generators."""
    monkeypatch.setattr(seeding, "_TABLE_AT_MOST", table_at_most)
    rng = np.random.default_rng(7)
    features = torch.zeros(1500, n_columns)
    for chosen in rng.permutation(1500).reshape(5, -1):
        columns = rng.choice(n_columns, 24, replace=False)
        values = rng.normal(0, 5, (4, 24))[rng.integers(4, size=len(chosen))] + rng.normal(size=(len(chosen), 24))
        features[chosen[:, None], columns] = torch.from_numpy(values.astype("float32"))
    theirs = (clustering_qr.kmeans_plusplus(features, niter=50, seed=5, device=CPU), torch.get_rng_state())
    ours = (seeding.kmeans_plusplus(features, niter=50, seed=5, device=CPU), torch.get_rng_state())
    assert ours[0].dtype == theirs[0].dtype
    # A sum in another order may move a spike that is as far from two centres.
    assert (ours[0] == theirs[0]).float().mean() > 0.999
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("following", [[1, 2, 3, 3], [1, 2, 3, 2], [1, 0], [0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]])
def test_rounds_left_out_change_nothing(following):
    """However the rounds settle, in one state or in two that take turns, the result is that of all of them."""
    table = torch.tensor(following)
    for n_rounds in range(12):
        expected = torch.zeros(1, dtype=torch.int64)
        for _ in range(n_rounds):
            expected = table[expected]
        assert torch.equal(repeat_until_settled(lambda state: table[state], expected * 0, n_rounds), expected)


@pytest.mark.parametrize("n_spikes", [(1, 1), (50, 300), (2000, 3000)])
def test_correlograms_are_the_same(n_spikes):
    """Counts and duration equal those of the compiled function, in order or not, with spikes at one time."""
    rng = np.random.default_rng(3)
    one, two = (np.round(rng.uniform(0, 60, n), 4) for n in n_spikes)
    two[: one.size // 2] = one[: one.size // 2][: two.size]
    theirs, ours = CCG.compute_CCG(one, two), correlogram_beside(CCG.compute_CCG)(one, two)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]


# ----------------------------------------------------------------------------------------------- matching


def templates_of(ops: dict[str, Any], n_units: int) -> torch.Tensor:
    """Templates of units at random contacts, some nearly alike, (n_units, n_pcs, n_channels)."""
    rng = np.random.default_rng(5)
    contacts = np.stack([ops["xc"], ops["yc"]], 1)
    made = []
    for unit in range(n_units):
        reach = np.exp(-((contacts - contacts[rng.integers(len(contacts))]) ** 2).sum(1) / (2 * 20.0**2))
        shape = ops["wPCA"].numpy() @ waveforms(np.linspace(0, 60, ops["nt"]))[unit % 6]
        made.append(rng.uniform(15, 50) * np.outer(shape, reach))
    return torch.from_numpy(np.stack(made).astype("float32"))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("changed", [{}, {"max_peels": 3}, {"Th_learned": 4.0}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_matching_pursuit_takes_the_same_spikes(name, changed):
    """Spikes, their order and amplitudes and what is left of the batch equal upstream's to the bit."""
    case = CASES[name]
    ops = {**ops_of(case), **changed}
    batches = Batches(case, ops)
    ops["wPCA"] = torch.linalg.qr(torch.randn(ops["nt"], 6, generator=torch.Generator().manual_seed(0)))[0].T
    U = templates_of(ops, 1 if case.layout == "one" else 13)
    ctc = template_matching.prepare_matching(ops, U)
    for number in range(case.n_batches):
        X = batches.padded_batch_to_torch(number)
        theirs = template_matching.run_matching(ops, X.clone(), U, ctc, device=CPU)
        ours = run_matching(ops, X, U, ctc, device=CPU)
        assert len(theirs[0]) > 3 or case.content != "spikes" or changed
        assert all(
            torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(ours, theirs, strict=True)
        )
        assert torch.equal(X, batches.padded_batch_to_torch(number))


# ---------------------------------------------------------------------------------------------- filtering


@pytest.mark.parametrize("n_channels", [1, 2, 5, 8, 9, 64])
def test_median_is_that_of_torch(n_channels):
    """The median over channels equals torch's, with ties and with values that are no numbers."""
    rng = torch.Generator().manual_seed(0)
    X = torch.randint(-3, 4, (n_channels, 5000), generator=rng).float()
    X[0, 17] = torch.nan
    torch.testing.assert_close(median_of_channels(X), torch.median(X, 0).values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_CAR": False},
        {"invert_sign": True},
        {"hp_filter": None},
        {"whiten_mat": None},
        {"artifact_threshold": 100.0},
        {"artifact_threshold": 1e6},
        {"chan_map": np.array([5, 0, 3])},
        {"dtype": "float32", "scale": 0.1, "shift": 3.0},
        {"dtype": "uint16"},
    ],
    ids=lambda options: ", ".join(options) or "defaults",
)
def test_filtered_batches_are_the_same(tmp_path, options):
    """A filtered batch equals upstream's to the rounding of a Fourier transform, whatever is switched on."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 50, (9000, 6)) + (2**15 if options.get("dtype") == "uint16" else 0)
    samples.astype(options.get("dtype", "int16")).tofile(tmp_path / "recording.bin")
    n_used = len(options.get("chan_map", range(6)))
    hp_filter = torch.from_numpy(rng.normal(size=30122)).float()
    usual = {"hp_filter": hp_filter, "whiten_mat": torch.eye(n_used) + 0.01, "dtype": "int16"}
    bfile = io.BinaryFiltered(tmp_path / "recording.bin", 6, 20_000, 4000, device=CPU, **{**usual, **options})
    ours = BatchFilter()
    for number in range(bfile.n_batches):
        X = io.BinaryRWFile.padded_batch_to_torch(bfile, number)
        for skip in (False, True):
            theirs = bfile.filter(X.clone(), None, number, skip)
            found = ours(bfile, X, None, number, skip)
            torch.testing.assert_close(found, theirs, rtol=0, atol=1e-6 * float(theirs.abs().max()))


@pytest.mark.parametrize("n_times", [60_122, 30_122, 9_001, 4_096, 701, 40])
@pytest.mark.parametrize("fs_Hz, cutoff_Hz", [(20_000, 300), (30_000, 1)])
def test_high_pass_rounds_no_more_than_upstream(n_times, fs_Hz, cutoff_Hz):
    """However long batch and filter are, what comes out is no farther from the exact result than upstream's."""
    hp_filter = preprocessing.get_highpass_filter(fs_Hz, cutoff_Hz, device=CPU)
    X = torch.randn(3, n_times, generator=torch.Generator().manual_seed(0)) * 30 + torch.linspace(-300, 900, n_times)
    exact = high_passed(X.double(), hp_filter.double())
    theirs, ours = high_passed(X, hp_filter), make_high_pass(hp_filter, n_times).apply(X.clone())
    assert (ours - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()


def high_passed(X: torch.Tensor, hp_filter: torch.Tensor) -> torch.Tensor:
    """Return what upstream's filter alone makes of X, in the precision of X."""
    spectrum = torch.conj(preprocessing.fft_highpass(hp_filter, NT=X.shape[1]))
    return torch.fft.fftshift(torch.fft.ifft(torch.fft.fft(X) * spectrum).real, dim=-1)


# ------------------------------------------------------------------------------------------- whole sorts


def sort_with(folder: Path, recording: Any, accelerated: bool) -> tuple[np.ndarray, ...]:
    run = RunFolder(inter=folder / "inter", results=folder / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params={"accelerated": accelerated, "nblocks": 0}, n_jobs=1)
    noted = Kilosort4Backend().sort(SortJob(recording, output, run, config, ProgressFile(run.progress, "sort")))
    assert ("spikedetect.template_match" in noted["accelerated"]) is accelerated
    assert {"clustering_qr.run", "CCG.check_CCG"} <= set(noted["accelerated"])
    names = ("spike_times", "spike_clusters", "templates", "amplitudes", "spike_positions", "pc_features")
    return tuple(np.load(output / f"{name}.npy") for name in names)


def test_a_whole_sort_gives_the_same(tmp_path):
    """Times and clusters of a whole sort are the same with our functions and without, all else to rounding."""
    truth = simulate_recording("linear", n_channels=12, duration_s=20, n_units=6, rate_Hz=(40, 60), seed=4)
    recording = truth.recording.save(folder=tmp_path / "recording", verbose=False)
    ours = sort_with(tmp_path / "ours", recording, accelerated=True)
    theirs = sort_with(tmp_path / "theirs", recording, accelerated=False)
    assert len(np.unique(ours[1])) > 1
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(ours[2:], theirs[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


# ------------------------------------------------------------------------------------ putting ours in place


def upstream() -> list[Any]:
    return [
        spikedetect.template_match,
        spikedetect.extract_snippets,
        clustering_qr.cluster,
        clustering_qr.kmeans_plusplus,
        CCG.compute_CCG,
        swarmsplitter.compute_CCG,
        template_matching.run_matching,
        vars(io.BinaryFiltered)["filter"],
    ]


def _replace_and_fail(during: list[Any]) -> None:
    with accelerated() as names:
        assert names
        during += upstream()
        raise KeyboardInterrupt


def test_upstream_is_restored_whatever_happens():
    """After the context, and after an exception in it, every function is upstream's again."""
    before = upstream()
    during = []
    with pytest.raises(KeyboardInterrupt):
        _replace_and_fail(during)
    assert len(during) == len(before)
    assert all(one is not other for one, other in zip(before, during, strict=True))
    assert all(one is other for one, other in zip(before, upstream(), strict=True))


@pytest.mark.parametrize("reason", ["not wanted", "not verified"])
def test_upstream_stays_where_ours_may_not_run(reason, monkeypatch, caplog):
    """`accelerated=False` and versions that were not verified leave upstream alone; the latter with one line."""
    if reason == "not verified":
        monkeypatch.setattr(kilosort, "__version__", "4.1.99")
    before = upstream()
    with accelerated(reason == "not verified") as names:
        assert upstream() == before
    assert names == ()
    assert len(caplog.messages) == (reason == "not verified")


def test_groups_and_merging_of_ours_stay_out_of_versions_that_are_not_verified(monkeypatch, caplog):
    """Advice for few spikes has no effect there, with one warning; a verified version follows it."""
    from spikelab.spike_sorting.backends.binary import FlatBinary
    from spikelab.spike_sorting.backends.kilosort4 import steps

    numbers = {"min_spikes_to_cluster": 60, "density_below": 4000, "censored_lag_ms": 1.0}
    binary = FlatBinary(Path("recording.bin"), "int16", 4)
    asked = steps.Request(binary, "key", {}, 20_000.0, {}, torch.device("cpu"), Path(), **numbers)
    assert steps._without_unverified(asked) is asked
    monkeypatch.setattr(kilosort, "__version__", "4.1.99")
    left = steps._without_unverified(asked)
    assert (left.min_spikes_to_cluster, left.density_below, left.censored_lag_ms) == (1000, 0, 0.0)
    assert len(caplog.messages) == 1


def test_the_installed_version_is_verified():
    """These tests run with a version that is listed as verified: another one is added when they pass with it."""
    assert kilosort.__version__ in VERIFIED
