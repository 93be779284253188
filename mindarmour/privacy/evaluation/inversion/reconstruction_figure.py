"""The picture of a reconstruction report. Imports matplotlib, so it is loaded only when a figure is drawn."""
import numpy as np
from matplotlib.figure import Figure

ROWS = ("original", "reconstruction", "difference")


def _picture(image, low, span):
    """[C, H, W] as matplotlib shows it: [H, W] or [H, W, 3], scaled to [0, 1]."""
    scaled = np.clip((image - low) / span, 0, 1)
    return np.moveaxis(scaled, 0, 2) if len(scaled) == 3 else scaled.mean(0)


def draw(report, title, most):
    """A matplotlib figure: three rows, one column an image, its metrics under each column."""
    count = min(most, len(report.originals))
    # the originals alone set the scale: one outlier of a reconstruction would whiten every picture
    low = report.originals.min()
    figure = Figure(figsize=(max(1.0 * count + 1.0, 4.5), 4.4), dpi=150, layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    for column in range(count):
        original, found = report.originals[column], report.reconstructions[column]
        pictures = (_picture(original, low, report.data_range), _picture(found, low, report.data_range),
                    _picture(np.abs(original - found), 0.0, report.data_range))
        for row, picture in enumerate(pictures):
            axis = axes[row, column]
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(ROWS[row], fontsize=9)
        ssim, correlation, psnr = (report[name].values[column] for name in ("ssim", "correlation", "psnr"))
        axes[2, column].set_xlabel(f"SSIM {_text(ssim)}\ncorr. {_text(correlation)}\n{psnr:.1f} dB", fontsize=8)
    figure.suptitle((f"{title}\n" if title else "") + _headline(report, count > 5), fontsize=10)
    return figure


def _headline(report, wide):
    """Each metric with its random-pair baseline, and the outcome: correlation too, because either recognises."""
    ssim, correlation, psnr = (report[name] for name in ("ssim", "correlation", "psnr"))
    values = (f"SSIM {_text(ssim.mean)} (random pair {_text(ssim.baseline_mean)})",
              f"correlation {_text(correlation.mean)} ({_text(correlation.baseline_mean)})",
              f"PSNR {psnr.mean:.1f} dB ({psnr.baseline_mean:.1f} dB)")
    return (", " if wide else ",\n").join(values) + f": {report.outcome}"


def _text(value):
    """Two decimals, no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"
