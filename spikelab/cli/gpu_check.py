"""The GPU that the driver sees against the GPU that torch can use."""

from __future__ import annotations

from spikelab.cli.checks import GB, Finding, numbers, pip
from spikelab.cli.facts import Facts
from spikelab.spike_sorting.preflight.builds import suits_all, wheel_index, why_foreign
from spikelab.spike_sorting.preflight.gpu_choice import offered_gpus
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch
from spikelab.spike_sorting.supervision.devices import listed_names
from spikelab.spike_sorting.supervision.gpu_locks import lock_name


def check_gpu(facts: Facts) -> Finding:
    """Compare the GPUs that the driver sees with those that torch can use."""
    driver, torch = facts.driver, facts.torch
    if driver is not None and driver.problem:
        advice = "Restart the machine (after an update the driver needs that), and check that nvidia-smi works."
        return Finding("GPU", f"the NVIDIA driver does not work: {driver.problem}", "problem", advice)
    if driver is None or not driver.gpus:
        found = "no NVIDIA driver" if driver is None else "the NVIDIA driver sees none"
        advice = "Nothing, if this machine has no NVIDIA GPU: Kilosort4 sorts on the CPU, many times slower."
        return Finding("GPU", found, "note", advice)
    described = _described(driver)
    if torch is None or torch.error:
        return Finding("GPU", described)
    if torch.cuda_build is None:
        advice = f"The GPU lies idle, because this torch was built without CUDA. {_reinstall(facts, driver)}"
        return Finding("GPU", f"{described}, but torch is for the CPU only", "problem", advice)
    if _is_hidden(facts):
        advice = "Nothing, if that is on purpose; otherwise:\nunset CUDA_VISIBLE_DEVICES"
        return Finding("GPU", f"{described}, hidden by CUDA_VISIBLE_DEVICES={facts.hidden_gpus}", "note", advice)
    if not torch.usable:
        return _unusable(facts, driver, described)
    if has_foreign_gpu(facts):
        advice = f"This torch has no code for this GPU. {_reinstall(facts, driver)}"
        found = f"{described}; torch knows {', '.join(torch.architectures)}"
        return Finding("GPU", found, "problem", advice)
    return _usable(facts, driver, torch)


def _usable(facts: Facts, driver: Driver, torch: Torch) -> Finding:
    fit, foreign = _fit_and_foreign(facts, driver, torch)
    described = f"{_described(driver, *fit[:1])}, usable by torch"
    if not foreign:
        return Finding("GPU", described)
    named = "; ".join(f"{gpu.name} (GPU {driver.gpus.index(gpu)}): {why}" for gpu, why in foreign.items())
    advice = "Nothing, if the others will do: it is not used."
    if suits_all(driver):
        advice = _reinstall(facts, driver, "It is not used. To use all of them, exchange torch")
    return Finding("GPU", f"{described}, but for the {named}", "note", advice)


def check_gpu_locks(facts: Facts) -> Finding | None:
    """Tell who sorts on which GPU; None where nobody does."""
    gpus = facts.driver.gpus if facts.driver is not None else ()
    labels = {lock_name(gpu.uuid): f"GPU {number}" for number, gpu in enumerate(gpus)}
    held = [f"{labels.get(name, name)}: held by {holder}" for name, holder in facts.held_gpus.items()]
    return Finding("GPU locks", "; ".join(sorted(held))) if held else None


def _unusable(facts: Facts, driver: Driver, described: str) -> Finding:
    build = facts.torch.cuda_build if facts.torch else None
    if build is not None and numbers(build)[:1] > driver.cuda[:1]:
        exchange = _reinstall(facts, driver, "Update the driver, or exchange torch")
        advice = f"The driver is too old for a torch with CUDA {build}. {exchange}"
    else:
        advice = "Check that nvidia-smi works for this user and, in a container, that it was started with the GPU."
    return Finding("GPU", f"{described}, but torch (CUDA {build}) cannot use it", "problem", advice)


def has_foreign_gpu(facts: Facts) -> bool:
    """Return whether torch would take a GPU that it has no code for, and fail."""
    if facts.torch is None or facts.driver is None or not facts.torch.usable:
        return False
    fit, foreign = _fit_and_foreign(facts, facts.driver, facts.torch)
    return bool(foreign) and not fit


def name_of_gpu(facts: Facts) -> str | None:
    """Return the name of a GPU on which Kilosort4 can sort; None where there is none."""
    torch, driver = facts.torch, facts.driver
    if torch is None or not torch.usable:
        return None
    fit = _fit_and_foreign(facts, driver, torch)[0] if driver is not None else []
    return fit[0].name if fit else torch.usable[0]


def _fit_and_foreign(facts: Facts, driver: Driver, torch: Torch) -> tuple[list[Gpu], dict[Gpu, str]]:
    """Return the GPUs that programs may use: those that torch can use, and why not the others."""
    offered = [gpu for gpu in offered_gpus(driver.gpus, facts.hidden_gpus) if gpu is not None]
    reasons = {gpu: why_foreign(gpu, torch) for gpu in offered}
    return (
        [gpu for gpu in offered if reasons[gpu] is None],
        {gpu: why for gpu, why in reasons.items() if why is not None},
    )


def _reinstall(facts: Facts, driver: Driver, lead: str = "Exchange torch") -> str:
    index = wheel_index(driver.cuda, driver.gpus)
    if index is None:
        return f"Update the NVIDIA driver first: {driver.version} runs CUDA {_dotted(driver.cuda)}, torch needs 12."
    command, wanted = pip(facts), facts.wanted.get("torch", "")
    source = f"https://download.pytorch.org/whl/{index}"
    return f"{lead}:\n{command} uninstall -y torch\n{command} install 'torch{wanted}' --index-url {source}"


def _described(driver: Driver, gpu: Gpu | None = None) -> str:
    first, others = gpu or driver.gpus[0], len(driver.gpus) - 1
    more = f" and {others} more" if others else ""
    size = "" if first.memory_bytes is None else f"{first.memory_bytes / GB:.0f} GB, "
    return f"{first.name} ({size}driver {driver.version}){more}"


def _is_hidden(facts: Facts) -> bool:
    return facts.hidden_gpus is not None and not listed_names(facts.hidden_gpus)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)
