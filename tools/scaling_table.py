"""The table of docs/distributed.md: what sum and noise cost per step, on paper.

    python -m tools.scaling_table
"""
import math

BANDWIDTH = 25e9  # bytes per second that a device sends while it receives as many
LATENCY = 5e-6  # seconds per message of the ring
BUCKET = 2 ** 24  # elements per AllReduce
DRAWS = 39e6  # standard normals per second and core: AES-256-CTR and inversion, measured on one CPU core
TO_DEVICE = 16e9  # bytes per second from host to device

PARAMETERS = (10 ** 6, 10 ** 7, 10 ** 8, 10 ** 9)
DEVICES = (1, 2, 8, 64, 1024)


def sum_seconds(parameters, devices):
    """Ring AllReduce of float32: each byte goes round almost twice; every bucket pays the messages' latency."""
    if devices == 1:
        return 0.0
    buckets = math.ceil(parameters / BUCKET)
    return 2 * (devices - 1) / devices * 4 * parameters / BANDWIDTH + buckets * 2 * (devices - 1) * LATENCY


def noise_seconds(parameters, drawn=1.0):
    """Draw `drawn` of all normals on one core and hand an array of full size to the device."""
    return drawn * parameters / DRAWS + 4 * parameters / TO_DEVICE


def duration(seconds):
    """A duration in two digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds * 1e6:.2g}'):g} µs" if seconds else "0"


def table():
    """Markdown table: one row per number of parameters and devices."""
    rows = ["| parameters | devices | sum | noise: every rank, rank 0 | noise: slices |", "|---|---|---|---|---|"]
    for parameters in PARAMETERS:
        for devices in DEVICES:
            rows.append(f"| 10^{round(math.log10(parameters))} | {devices} | "
                        f"{duration(sum_seconds(parameters, devices))} | {duration(noise_seconds(parameters))} | "
                        f"{duration(noise_seconds(parameters, 1 / devices))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
