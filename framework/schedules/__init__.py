r"""How much of the data and how much noise there is at time t: x_t = alpha(t) x_0 + sigma(t) z.

Time runs from t = 0, data (alpha = 1, sigma = 0 exactly), to t = 1, noise. All that a sampler needs follows from the
log-signal-to-noise ratio

    log_snr(t) = log(alpha(t)^2 / sigma(t)^2),

which falls strictly from +inf; a schedule gives it, its inverse `time`, and the derivatives of alpha and sigma in
closed form. Everything is float64, of any shape. A schedule says nothing about where a sampler steps: that is a grid.

    LinearVP     Ho et al. 2020; Song et al. 2021      log alpha = -(beta_min t + (beta_max - beta_min) t^2 / 2) / 2
    Cosine       Nichol & Dhariwal 2021 (s = 0)        alpha = cos(pi t / 2), sigma = sin(pi t / 2)
    Sigmoid      Jabri et al. 2022; Chen 2023          alpha^2 = (S(e) - S(s + t (e - s))) / (S(e) - S(s)), S logistic
    VE           Song et al. 2021                      alpha = 1, sigma^2 = smin^2 ((smax / smin)^(2 t) - 1)
    EDM          Karras et al. 2022                    alpha = 1, sigma = sigma_max t
    Flow         Liu et al. 2023; Lipman et al. 2023   alpha = 1 - t, sigma = t
    TabulatedBetas  a checkpoint's betas               log alpha^2 linear between the table's times k / T
    Shifted      Hoogeboom et al. 2023; Esser et al. 2024   another schedule with log_snr lowered by 2 log(shift)

    schedule.py              the role
    variance_preserving.py   LinearVP, Cosine, Sigmoid
    paths.py                 VE, EDM, Flow
    tables.py                TabulatedBetas, DDPMBetas
    shifted.py               Shifted
"""

from framework.schedules.paths import EDM, VE, Flow
from framework.schedules.schedule import Schedule, angle, as_times
from framework.schedules.shifted import Shifted
from framework.schedules.tables import DDPMBetas, TabulatedBetas
from framework.schedules.variance_preserving import Cosine, LinearVP, Sigmoid, VariancePreserving

__all__ = [
    "EDM",
    "VE",
    "Cosine",
    "DDPMBetas",
    "Flow",
    "LinearVP",
    "Schedule",
    "Shifted",
    "Sigmoid",
    "TabulatedBetas",
    "VariancePreserving",
    "angle",
    "as_times",
]
