"""What the page says beside its numbers."""

from __future__ import annotations

INTRODUCTION = (
    "Tables 2 to 7 and figures 1b, 3b, 3c and 3d of Yang et al. (MICCAI 2023), made again by drmc "
    "reproduce. A cell is ours | the paper's: ours on the patients of this run, the paper's on its "
    "own patients, so that levels are not comparable; differences to DRMC within a table are. All "
    "rows are re-implementations (docs/comparison.md); the networks saw the same patients and equal "
    "numbers of patches. What was not computed is empty."
)
READING = (
    "Ours with *: differs from DRMC (paired Wilcoxon, p < 0.05 after Holm's correction within this table and "
    "metric). The paper's with *: as printed there. In brackets: lowest and highest of several seeds."
)
TABLE_NOTES = {
    2: "3D-cGAN and 3D CVT-GAN learn from all patients as of one center. FedAVG, FL-MRCM and FTL are "
    "in the paper's mode Mix, without the constraint that data stay at their site. Rows that the "
    "paper does not have are ours. FTL takes the model of the patient's center.",
    3: "Centers that no training saw, at their largest dose reduction factor. FTL is the model before its "
    "transfer to single centers; the paper does not say which one it took. C5 has no lesions.",
    4: "C_kn: mean over the known centers; C_ukn: mean over the unknown ones, of lesions over those "
    "that have any.",
    5: "A specialist learns from one center and is tested on all. Baseline: no routing, as many "
    "blocks as there were experts.",
    6: "Rows as in Table 2.",
    7: "The networks were trained at the centers' own doses. The average is over the doses; a patient counts "
    "once in its test.",
}
TESTS_NOTE = (
    "Reference ({reference}) minus the other row; n: patients, each once. Two-sided paired Wilcoxon "
    "signed-rank tests, exact up to 25 patients; median difference by Hodges and Lehmann with its 95 "
    "% interval; Holm's correction over the pooled comparisons of a table and metric. With n patients "
    "the smallest p is 2^(1-n), 0.0625 for 5: single centers of five patients can have no star. The "
    "paper marks p < 0.05 and names no test."
)
METHODS_NOTE = (
    "Parameters: of one network, without critics. Patches: in all, and their edge in voxels of 2 mm. "
    "Training: seconds in training steps, on this run's machine, other programs included. Scan: mean "
    "seconds for a test image. The settings of each training are in its folder (config.json, "
    "training.html)."
)
DEFINITIONS = (
    (
        "PSNR as in the authors' code (psnr_legacy): each image divided by its own maximum, 20 "
        "log10(1 / RMSE) over the whole volume, air included; 100 dB if the MSE is below 1e-10. It is "
        "blind to a wrong scale of the SUV, and air alone adds some 6 dB."
    ),
    (
        "PSNR (psnr): 20 log10(20 / RMSE), SUV, unclipped, in the body of the full-dose image, on the scan's "
        "own grid. Both PSNRs are against the full-dose scan."
    ),
    (
        "SSIM as in the authors' code (ssim_legacy): Gaussian window of 11 voxels, sigma 1.5, zeros "
        "beyond the border, C1 = 1e-4 and C2 = 9e-4 on SUV, over the whole volume. SSIM (ssim): the "
        "same window without zeros beyond the border, range 20 SUV, mean over the body."
    ),
    (
        "B_mean and B_max: (estimate - full) / full of SUVmean and SUVmax in a lesion's mask; "
        "absolute, or with its sign; mean over a patient's lesions, then over patients. The paper "
        "says bias between low dose and full dose; the file for it in the authors' code is empty."
    ),
    (
        "Averages are means over centers of the means over patients; of lesions over the centers, known or "
        "unknown, that have any, as the paper's Table 4 implies for the unknown ones."
    ),
)
NO_RESULTS = "Nothing has been evaluated yet."
