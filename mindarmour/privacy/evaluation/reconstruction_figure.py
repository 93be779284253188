"""The picture of a reconstruction report. Imports matplotlib, so it is loaded only when a figure is drawn."""
import numpy as np
from matplotlib.figure import Figure

ROWS = ("original", "reconstruction", "difference")


def _picture(image, low, span):
    """[C, H, W] as matplotlib shows it: [H, W] or [H, W, 3], scaled to [0, 1]."""
    scaled = np.clip((image - low) / span, 0, 1)
    return np.moveaxis(scaled, 0, 2) if len(scaled) == 3 else scaled.mean(0)


def draw(report, title, most):
    """A matplotlib figure: three rows, one column an image, SSIM and PSNR under each column."""
    count = min(most, len(report.originals))
    low = min(report.originals.min(), report.reconstructions.min())
    figure = Figure(figsize=(max(1.0 * count + 1.0, 4.5), 4.2), dpi=150, layout="constrained")
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
        ssim, psnr = report["ssim"].values[column], report["psnr"].values[column]
        axes[2, column].set_xlabel(f"SSIM {ssim:.2f}\n{psnr:.1f} dB", fontsize=8)
    ssim, psnr = report["ssim"], report["psnr"]
    figure.suptitle((f"{title}\n" if title else "")
                    + f"SSIM {ssim.mean:.2f} (random pair {ssim.baseline_mean:.2f}), "
                    f"PSNR {psnr.mean:.1f} dB (random pair {psnr.baseline_mean:.1f} dB): {report.outcome}",
                    fontsize=10)
    return figure
