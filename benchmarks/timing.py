"""Time several variants of one thing so that a busy machine disturbs all of them alike."""
import platform
import time

import numpy as np


def seconds_of(call):
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(variants, rounds, warmup=2):
    """Seconds per call of each variant: every round calls each of them once.

    Returns:
        dict, {name: array of `rounds` seconds}.
    """
    times = {name: [] for name in variants}
    for turn in range(warmup + rounds):
        for name, call in variants.items():
            seconds = seconds_of(call)
            if turn >= warmup:
                times[name].append(seconds)
    return {name: np.array(values) for name, values in times.items()}


def summary(times, baseline):
    """{name: {median_ms, min_ms, ratio, min_ratio}}; `ratio` is the median of the rounds' own ratios."""
    base = times[baseline]
    return {name: {"median_ms": float(np.median(values)) * 1e3, "min_ms": float(values.min()) * 1e3,
                   "ratio": float(np.median(values / base)), "min_ratio": float(values.min() / base.min())}
            for name, values in times.items()}


def peak_megabytes():
    """Most memory this process has held so far. (getrusage would start from what the parent process held.)"""
    with open("/proc/self/status", encoding="ascii") as lines:
        kilobytes, = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kilobytes) / 2 ** 10


def machine():
    """Facts that a figure means nothing without."""
    import os
    return {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0],
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "unset"),
            "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "unset")}


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def markdown(header, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
