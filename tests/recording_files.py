"""Writers of small recordings in the formats of amplifiers, after their published descriptions; for tests alone.

Each takes whole numbers of shape (n_samples, n_channels) and the sampling rate, and writes what the amplifier would.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

INTAN_GAIN_UV = 0.195


# --------------------------------------------------------------------------------------------------- SpikeGLX


def write_spikeglx(folder: Path, run: str, samples: Samples, fs_Hz: float, band: str = "ap", probe: int = 0) -> Path:
    """Write ``run_g0_t0.imec0.ap.bin`` and its .meta for the first channels of a Neuropixels 1.0, and the sync one."""
    folder.mkdir(parents=True, exist_ok=True)
    n_channels = samples.shape[1]
    path = folder / f"{run}_g0_t0.imec{probe}.{band}.bin"
    sync = np.zeros((len(samples), 1), dtype="int16")
    np.hstack([samples, sync]).tofile(path)
    kinds = f"{n_channels},0,1" if band == "ap" else f"0,{n_channels},1"
    names = [f"{band.upper()}{k};{k}:{k}" for k in range(n_channels)] + ["SY0;768:384"]
    first = 0 if band == "ap" else 384
    meta = {
        "typeThis": "imec",
        "fileName": path.name,
        "fileSizeBytes": path.stat().st_size,
        "firstSample": 0,
        "imDatPrb_pn": "NP1000",
        "imDatPrb_type": 0,
        "imAiRangeMax": 0.6,
        "imAiRangeMin": -0.6,
        "imMaxInt": 512,
        "imSampRate": fs_Hz,
        "nSavedChans": n_channels + 1,
        "snsApLfSy": kinds,
        "snsSaveChanSubset": f"{first}:{first + n_channels - 1},768",
        "~imroTbl": "(0,384)" + "".join(f"({k} 0 0 500 250 1)" for k in range(384)),
        "~snsChanMap": "(384,384,1)" + "".join(f"({name})" for name in names),
    }
    path.with_suffix(".meta").write_text("".join(f"{key}={value}\n" for key, value in meta.items()))
    return path


def write_spikeglx_nidq(
    folder: Path, run: str, digital_word: Samples, fs_Hz: float, lines: str, *, trigger: int = 0
) -> Path:
    """Write ``run_g0_t0.nidq.bin`` and its .meta: one analog channel of zeros, and a digital word of `lines`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run}_g0_t{trigger}.nidq.bin"
    np.stack([np.zeros_like(digital_word), digital_word], axis=1).tofile(path)
    meta = {
        "typeThis": "nidq",
        "fileName": path.name,
        "fileSizeBytes": path.stat().st_size,
        "firstSample": 0,
        "nSavedChans": 2,
        "niAiRangeMax": 5,
        "niMAGain": 1,
        "niMNGain": 200,
        "niSampRate": fs_Hz,
        "niXDChans1": lines,
        "snsMnMaXaDw": "0,0,1,1",
        "~snsChanMap": "(0,0,1,1,1)(XA0;0:0)(XD0;1:1)",
    }
    path.with_suffix(".meta").write_text("".join(f"{key}={value}\n" for key, value in meta.items()))
    return path


# ------------------------------------------------------------------------------------------------- Open Ephys


def write_open_ephys(folder: Path, samples: Samples, fs_Hz: float, *, n_recordings: int = 1) -> Path:
    """Write a record node in the binary format: headstage channels and two ADC channels in one stream."""
    n_channels = samples.shape[1]
    adc = np.zeros((len(samples), 2), dtype="int16")
    node = folder / "Record Node 101"
    for number in range(1, n_recordings + 1):
        recording = node / "experiment1" / f"recording{number}"
        stream = recording / "continuous" / "Acquisition_Board-100.Rhythm Data"
        stream.mkdir(parents=True)
        np.hstack([samples, adc]).tofile(stream / "continuous.dat")
        np.save(stream / "sample_numbers.npy", np.arange(len(samples)))
        np.save(stream / "timestamps.npy", np.arange(len(samples)) / fs_Hz)
        names = [(f"CH{k + 1}", INTAN_GAIN_UV, "uV") for k in range(n_channels)] + [
            ("ADC1", 1e-4, "V"),
            ("ADC2", 1e-4, "V"),
        ]
        channels = [{"channel_name": name, "bit_volts": gain, "units": units} for name, gain, units in names]
        described = {
            "GUI version": "0.6.4",
            "continuous": [
                {
                    "folder_name": f"{stream.name}/",
                    "sample_rate": fs_Hz,
                    "source_processor_name": "Acquisition Board",
                    "source_processor_id": 100,
                    "stream_name": "Rhythm Data",
                    "recorded_processor_id": 101,
                    "num_channels": n_channels + 2,
                    "channels": channels,
                }
            ],
            "events": [],
            "spikes": [],
        }
        (recording / "structure.oebin").write_text(json.dumps(described))
    return folder


# ------------------------------------------------------------------------------------------------------ Intan


def write_intan(path: Path, samples: Samples, fs_Hz: float) -> Path:
    """Write a .rhd file with its data, and one auxiliary input, in blocks of 128; a rest of a block is left out.

    A file of the name ``info.rhd`` gets the header alone, and ``amplifier.dat`` and ``time.dat`` beside it.
    """
    header_only = path.name == "info.rhd"
    path.write_bytes(_intan_header(samples.shape[1], fs_Hz, with_auxiliary=not header_only))
    if header_only:
        samples.astype("<i2").tofile(path.with_name("amplifier.dat"))
        np.arange(len(samples), dtype="<i4").tofile(path.with_name("time.dat"))
        return path
    with path.open("ab") as file:
        for start in range(0, len(samples) - 127, 128):
            np.arange(start, start + 128, dtype="<i4").tofile(file)
            (samples[start : start + 128].T.astype("i4") + 32768).astype("<u2").tofile(file)
            np.zeros(32, dtype="<u2").tofile(file)
    return path


def _intan_header(n_channels: int, fs_Hz: float, *, with_auxiliary: bool) -> bytes:
    header = struct.pack("<Ihh", 0xC6912702, 3, 1)
    header += struct.pack("<fhffffffhff", fs_Hz, 1, 1.0, 1.0, 7500.0, 1.0, 1.0, 7500.0, 0, 1000.0, 1000.0)
    header += 3 * _qstring("")  # notes
    header += struct.pack("<hh", 0, 0) + _qstring("") + struct.pack("<h", 1)
    n_all = n_channels + with_auxiliary
    header += _qstring("Port A") + _qstring("A") + struct.pack("<hhh", 1, n_all, n_channels)
    kinds = [(f"A-{k:03d}", k, 0) for k in range(n_channels)] + ([("A-AUX1", n_channels, 1)] if with_auxiliary else [])
    for name, number, kind in kinds:
        header += _qstring(name) + _qstring(name)
        header += struct.pack("<10hff", number, number, kind, 1, number, 0, 0, 0, 0, 0, 1e5, 0.0)
    return header


def _qstring(text: str) -> bytes:
    encoded = text.encode("utf-16-le")
    return struct.pack("<I", len(encoded)) + encoded


# -------------------------------------------------------------------------------------------------- Blackrock


def write_blackrock(path: Path, samples: Samples, period: int = 1) -> Path:
    """Write a ``.nsX`` file of specification 2.3; the sampling rate is 30 kHz over `period`, one step is 0.25 uV."""
    n_channels = samples.shape[1]
    n_header = 314 + 66 * n_channels
    header = struct.pack("<8sBBI16s256sII", b"NEURALCD", 2, 3, n_header, b"30 kS/s", b"", period, 30_000)
    header += struct.pack("<8HI", 2020, 1, 3, 1, 0, 0, 0, 0, n_channels)
    for k in range(n_channels):
        header += struct.pack("<2sH16sBBhhhh16s", b"CC", k + 1, b"elec%d" % k, 1, k, -32764, 32764, -8191, 8191, b"uV")
        header += struct.pack("<IIHIIH", 300, 1, 1, 7_500_000, 3, 1)
    path.write_bytes(header + struct.pack("<BII", 1, 0, len(samples)) + samples.astype("<i2").tobytes())
    return path


# -------------------------------------------------------------------------------------------------- Neuralynx


def write_neuralynx(folder: Path, samples: Samples, fs_Hz: float) -> Path:
    """Write one ``.ncs`` file per channel, in records of 512 samples; a rest is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    record = np.dtype([("time", "<u8"), ("channel", "<u4"), ("rate", "<u4"), ("valid", "<u4"), ("samples", "<i2", 512)])
    n_records = len(samples) // 512
    for k in range(samples.shape[1]):
        lines = [
            "######## Neuralynx Data File Header",
            "-FileType NCS",
            "-FileVersion 3.4",
            "-RecordSize 1044",
            "-TimeCreated 2020/01/01 12:00:00",
            "-TimeClosed 2020/01/01 12:10:00",
            '-ApplicationName Cheetah "6.3.2"',
            "-AcquisitionSystem AcqSystem1 DigitalLynxSX",
            "-HardwareSubSystemType DigitalLynxSX",
            f"-SamplingFrequency {fs_Hz:g}",
            "-ADMaxValue 32767",
            "-ADBitVolts 0.00000025",
            f"-AcqEntName CSC{k + 1}",
            "-NumADChannels 1",
            f"-ADChannel {k}",
            "-InputRange 8191",
            "-InputInverted False",
        ]
        records = np.zeros(n_records, dtype=record)
        records["time"] = 1_000_000 + np.round(np.arange(n_records) * 512 / fs_Hz * 1e6)
        records["channel"], records["rate"], records["valid"] = k, round(fs_Hz), 512
        records["samples"] = samples[: n_records * 512, k].reshape(-1, 512)
        text = "\r\n".join(lines).encode("latin-1").ljust(16_384, b"\0")
        (folder / f"CSC{k + 1}.ncs").write_bytes(text + records.tobytes())
    return folder


# ---------------------------------------------------------------------------------------- Multi Channel Systems


def write_mcs_raw(path: Path, samples: Samples, fs_Hz: float) -> Path:
    """Write what MC_DataTool exports with a header; one step is 0.25 uV."""
    streams = ";".join(f"El_{k:02d}" for k in range(samples.shape[1]))
    header = (
        "MC_DataTool binary conversion\r\nVersion 2.6.15\r\n"
        f'MC_REC file = "demo.mcd"\r\nSample rate = {fs_Hz:g}\r\nADC zero = 32768\r\n'
        f"El = 0.25\xb5V/AD\r\nStreams = {streams}\r\nEOH\r\n"
    )
    path.write_bytes(header.encode("Windows-1252") + (samples.astype("i4") + 32768).astype("<u2").tobytes())
    return path


def write_mcs_h5(path: Path, samples: NDArray[np.int32], fs_Hz: float) -> Path:
    """Write what the Multi Channel DataManager exports: 24 bits in 32, one step is 59.6 nV."""
    import h5py

    n_channels, n_samples = samples.shape[1], len(samples)
    columns = {
        "ChannelID": np.arange(n_channels),
        "Label": [b"%d" % (k + 11) for k in range(n_channels)],
        "Unit": [b"V"] * n_channels,
        "Exponent": [-12] * n_channels,
        "ADZero": [0] * n_channels,
        "Tick": [round(1e6 / fs_Hz)] * n_channels,
        "ConversionFactor": [59_605] * n_channels,
    }
    kinds = {"Label": "S8", "Unit": "S4"}
    info = np.zeros(n_channels, dtype=[(name, kinds.get(name, "<i8")) for name in columns])
    for name, values in columns.items():
        info[name] = values
    with h5py.File(path, "w") as file:
        stream = file.create_group("Data/Recording_0/AnalogStream/Stream_0")
        stream.create_dataset("ChannelData", data=samples.T.astype("<i4"))
        stream.create_dataset("ChannelDataTimeStamps", data=np.array([[0, 0, n_samples - 1]]))
        stream.create_dataset("InfoChannel", data=info)
    return path


# -------------------------------------------------------------------------------------------------------- NWB


def write_nwb(path: Path, samples: NDArray[np.generic], fs_Hz: float, *, lfp: bool = False, probe: bool = True) -> Path:
    """Write an ElectricalSeries of 0.25 uV a step, and on request another one of 1 kHz."""
    from datetime import datetime, timezone

    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    file = NWBFile("demo", path.stem, datetime(2020, 1, 1, tzinfo=timezone.utc))
    group = file.create_electrode_group("shank", "a shank", "cortex", file.create_device("probe"))
    for k in range(samples.shape[1]):
        place = {"rel_x": 0.0, "rel_y": 20.0 * k} if probe else {}
        file.add_electrode(group=group, location="cortex", **place)
    for name, data, rate in [("ElectricalSeries", samples, fs_Hz)] + ([("LFP", samples[::20], 1000.0)] if lfp else []):
        electrodes = file.create_electrode_table_region(list(range(samples.shape[1])), "all")
        series = ElectricalSeries(
            name=name, data=data, electrodes=electrodes, rate=rate, starting_time=0.0, conversion=0.25e-6
        )
        file.add_acquisition(series)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


# ------------------------------------------------------------------------------------------------ NeuroScope


def write_neuroscope(path: Path, samples: Samples, fs_Hz: float) -> Path:
    """Write a ``.dat`` and the ``.xml`` that describes it."""
    samples.tofile(path)
    channels = "".join(f"<channel>{k}</channel>" for k in range(samples.shape[1]))
    path.with_suffix(".xml").write_text(
        "<parameters><acquisitionSystem><nBits>16</nBits>"
        f"<nChannels>{samples.shape[1]}</nChannels><samplingRate>{fs_Hz:g}</samplingRate>"
        "<voltageRange>20</voltageRange><amplification>1000</amplification><offset>0</offset></acquisitionSystem>"
        f"<anatomicalDescription><channelGroups><group>{channels}</group></channelGroups></anatomicalDescription>"
        "</parameters>"
    )
    return path


# -------------------------------------------------------------------------------------------------------- MDA


def write_mda(folder: Path, samples: Samples, fs_Hz: float) -> Path:
    """Write ``raw.mda`` of 16-bit samples, ``params.json`` and ``geom.csv``."""
    folder.mkdir(parents=True)
    header = struct.pack("<5i", -4, 2, 2, samples.shape[1], len(samples))
    (folder / "raw.mda").write_bytes(header + samples.astype("<i2").tobytes())
    (folder / "params.json").write_text(json.dumps({"samplerate": fs_Hz}))
    (folder / "geom.csv").write_text("".join(f"0,{20 * k}\n" for k in range(samples.shape[1])))
    return folder
