"""Numerical checks of the formulas in theory.md. Needs NumPy alone; takes a few seconds.

    python docs/theory_check.py

Prints one line per check and exits with status 1 if one fails.
"""

import sys

import numpy as np

RNG = np.random.default_rng(0)
FAILED = []


def check(name, passed, detail=""):
    print(f"{'ok  ' if passed else 'FAIL'} {name}{': ' + detail if detail else ''}")
    if not passed:
        FAILED.append(name)


def close(name, ours, expected, tolerance=1e-9):
    gap = float(np.max(np.abs(np.asarray(ours) - np.asarray(expected))))
    scale = max(1.0, float(np.max(np.abs(np.asarray(expected)))))
    check(name, gap <= tolerance * scale, f"off by {gap:.1e}")


def logdet(matrix):
    sign, value = np.linalg.slogdet(matrix)
    assert sign > 0
    return value


def kl_to_standard(cov):
    """KL(N(0, cov) ‖ N(0, I)), nats."""
    return 0.5 * (np.trace(cov) - logdet(cov) - len(cov))


def gram(phi, eps=0.0):
    return phi @ phi.T / phi.shape[1] + eps * np.eye(len(phi))


def wishart(size, dof):
    factor = RNG.normal(size=(size, dof))
    return factor @ factor.T / dof


def log_normal(points, mean, cov):
    gap = points - mean
    solved = np.linalg.solve(cov, gap.T).T
    return -0.5 * ((gap * solved).sum(1) + logdet(cov) + len(cov) * np.log(2 * np.pi))


def softmax(logits):
    z = np.exp(logits - logits.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def divergences():
    dim = 4
    cov0, cov1 = wishart(dim, 9), wishart(dim, 9)
    mean0, mean1 = RNG.normal(size=(2, dim))
    gap = mean1 - mean0
    base = np.trace(np.linalg.solve(cov1, cov0)) + gap @ np.linalg.solve(cov1, gap) - dim
    ratio = logdet(cov1) - logdet(cov0)
    draws = RNG.multivariate_normal(mean0, cov0, size=1_000_000)
    values = log_normal(draws, mean0, cov0) - log_normal(draws, mean1, cov1)
    error = values.std() / 1000
    plus, minus = 0.5 * (base + ratio), 0.5 * (base - ratio)
    detail = f"sampled {values.mean():.4f} ± {error:.4f}, + {plus:.4f}, − {minus:.4f}"
    right = abs(values.mean() - plus) < 4 * error and abs(values.mean() - minus) > 20 * error
    check("eq. 10: the sign of ln|Σ₁|/|Σ₀| is +", right, detail)
    short = 0.5 * (np.trace(cov0) - logdet(cov0))
    close("eq. 10, second line lacks −k", short - kl_to_standard(cov0), dim / 2)


def gradient_and_forces():
    rows, width = 5, 8
    phi = RNG.normal(size=(rows, width))
    inverse = np.linalg.inv(gram(phi))
    ours = (np.eye(rows) - inverse) @ phi / width
    numeric = np.zeros_like(phi)
    for index in np.ndindex(*phi.shape):
        step = np.zeros_like(phi)
        step[index] = 1e-5
        above, below = kl_to_standard(gram(phi + step)), kl_to_standard(gram(phi - step))
        numeric[index] = (above - below) / 2e-5
    close("gradient of the KL is (I − K̂⁻¹)Φ/K", ours, numeric, 1e-7)

    values, vectors = np.linalg.eigh(gram(phi))
    for name, descent, expected in [
        ("KL: dλ/dt = (2/K)(1 − λ)", -ours, 2 / width * (1 - values)),
        ("trace: dλ/dt = −(2/K)λ", -phi / width, -2 / width * values),
    ]:
        moved = (descent @ phi.T + phi @ descent.T) / width
        close(name, np.diag(vectors.T @ moved @ vectors), expected)
    check("the KL moves eigenvalues both ways", values.min() < 1 < values.max(),
          f"{values.min():.2f} … {values.max():.2f}")

    eps = 0.01
    for scale in [1e-6, np.sqrt(eps), 1.0, 3.0]:  # the singular value over √K
        phi = scale * np.sqrt(width) * np.eye(1, width)
        size = np.linalg.norm((1 - 1 / gram(phi, eps)) @ phi / width)
        if scale**2 + eps < 1:
            check(f"force of one direction ≤ 1/(2√(Kε)), s²/K = {scale**2:.0e}",
                  size <= 1 / (2 * np.sqrt(width * eps)) + 1e-12)
    phi = np.sqrt(1 - eps) * np.sqrt(width) * np.eye(1, width)
    close("with ε the rest is at λ = 1, the activation's part at 1 − ε", gram(phi, eps), 1)


def rank_deficient():
    rows, width, eps = 12, 5, 1e-3
    phi = RNG.normal(size=(rows, width))
    inner = phi.T @ phi / width + eps * np.eye(width)
    close("N > K: ln det = ln det of the K × K matrix + (N − K) ln ε",
          logdet(gram(phi, eps)), logdet(inner) + (rows - width) * np.log(eps))
    wide = (np.eye(rows) - np.linalg.inv(gram(phi, eps))) @ phi
    close("N > K: the gradient from the K × K matrix is the same",
          wide, phi @ (np.eye(width) - np.linalg.inv(inner)), 1e-8)


def scale_and_blocks():
    rows, width = 6, 10
    cov = gram(RNG.normal(size=(rows, width)))
    scales = np.linspace(0.2, 4, 2001)
    best = scales[np.argmin([kl_to_standard(s * cov) for s in scales])]
    close("the KL is smallest at mean eigenvalue 1", best * np.trace(cov) / rows, 1, 2e-3)
    check("the KL diverges as Φ → 0", kl_to_standard(1e-9 * cov) > kl_to_standard(cov) + 50)

    def fitted(matrix):  # the best r = N(0, v·I)
        return 0.5 * (rows * np.log(np.trace(matrix) / rows) - logdet(matrix))

    grid = np.exp(np.linspace(-3, 3, 4001))
    searched = min(kl_to_standard(cov / v) for v in grid)
    close("best isotropic r: ½(N ln(tr K̂/N) − ln det K̂)", fitted(cov), searched, 1e-5)
    close("… which does not depend on the scale", fitted(cov), fitted(7 * cov))

    blocks = [cov[:3, :3], cov[3:, 3:]]
    parts = sum(kl_to_standard(block) for block in blocks)
    correlation = 0.5 * (sum(logdet(block) for block in blocks) - logdet(cov))
    close("KL of all = KLs of the minibatches + total correlation",
          kl_to_standard(cov), parts + correlation)
    check("… which is not negative", correlation > 0, f"{correlation:.3f}")


def random_decoder():
    phi = RNG.normal(size=(3, 7))
    weights = RNG.normal(size=(7, 1_000_000))
    outputs = phi @ weights / np.sqrt(7)
    close("Φw/√K with w ~ N(0, I) has covariance K̂", outputs @ outputs.T / 1e6, gram(phi), 1e-2)


def coding_rate():
    rows, width, eps2 = 9, 6, 0.5
    phi = RNG.normal(size=(rows, width))
    rate = 0.5 * logdet(np.eye(width) + width / (rows * eps2) * phi.T @ phi)
    ours = rows * eps2 / width**2
    close("R = ½ ln det(K̂ + ε'I) − (N/2) ln ε', ε' = Nε²/K²",
          rate, 0.5 * logdet(gram(phi, ours)) - rows / 2 * np.log(ours))

    width, classes, each = 128, 8, 16
    features = np.eye(width)  # unit features, one per axis: 16 axes per class
    rate = 0.5 * logdet(np.eye(width) + width / (width * 0.5) * features.T @ features)
    part = features[:each]
    within = 0.5 * each / width * logdet(np.eye(width) + width / (each * 0.5) * part.T @ part)
    close("8 classes, 128 dimensions: R = 64 ln 3", rate, 64 * np.log(3))
    close("… R_c = 8 ln 17", classes * within, 8 * np.log(17))
    close("… ΔR = 47.645", rate - classes * within, 47.645, 1e-4)


def noisy_information():
    rows, width, s = 64, 3, 0.7
    for spread in [0.1, 0.5, 2.0]:
        h = spread * RNG.normal(size=(rows, width)) + 0.3
        draws = 4000
        source = RNG.integers(rows, size=(draws,))
        noisy = h[source] + s * RNG.normal(size=(draws, width))
        square = ((noisy[:, None] - h[None]) ** 2).sum(-1)
        own = square[np.arange(draws), source]
        terms = -own / (2 * s**2) - np.log(np.exp(-square / (2 * s**2)).mean(1))
        truth, error = terms.mean(), terms.std() / np.sqrt(draws)
        gaps = ((h[:, None] - h[None]) ** 2).sum(-1)
        lower = -np.log(np.exp(-gaps / (8 * s**2)).mean(1)).mean()
        upper = -np.log(np.exp(-gaps / (2 * s**2)).mean(1)).mean()
        second = h.T @ h / rows
        cov = second - np.outer(h.mean(0), h.mean(0))
        tight = 0.5 * logdet(np.eye(width) + cov / s**2)
        energy = (h**2).sum(1).mean() / (2 * s**2)
        detail = (f"{lower:.3f} ≤ {truth:.3f} ± {error:.3f} ≤ {upper:.3f}; "
                  f"½ ln det {tight:.3f} ≤ E‖h‖²/2s² {energy:.3f}; ln N {np.log(rows):.3f}")
        slack = 4 * error
        check(f"information of h + noise, spread {spread}",
              lower <= truth + slack and truth <= upper + slack and truth <= tight + slack
              and tight <= energy and upper <= np.log(rows) + 1e-12, detail)
    far = 100.0 * np.arange(rows)[:, None] * np.ones(width)
    gaps = ((far[:, None] - far[None]) ** 2).sum(-1)
    close("distance bound of N far points is ln N",
          -np.log(np.exp(-gaps / 8).mean(1)).mean(), np.log(rows))
    mu, sigma = 0.7, 0.4
    for prior in [sigma, 1.0]:
        formula = 0.5 * (sigma**2 / prior**2 + mu**2 / prior**2 - 1 - np.log(sigma**2 / prior**2))
        t = mu + sigma * RNG.normal(size=2_000_000)
        values = (t**2 / (2 * prior**2) - (t - mu) ** 2 / (2 * sigma**2)) + np.log(prior / sigma)
        close(f"KL(N(μ, σ²) ‖ N(0, {prior}²))", values.mean(), formula, 4e-3)


def conversions():
    b, t, k, v = 4, 5, 6, 9
    h = RNG.normal(size=(t, b, k))
    decoder = RNG.normal(size=(k, v))
    targets = RNG.integers(v, size=(t, b))
    p = softmax(h @ decoder)
    nll = -np.log(np.take_along_axis(p, targets[..., None], -1))[..., 0]
    eta = 0.03
    summed = nll.sum() / b + eta / 2 * (h**2).sum()
    alpha = eta * b * k / 2
    close("half sum beside the T-summed loss, over T, is AR with α = ηBK/2",
          summed / t, nll.mean() + alpha * (h**2).mean())
    per_token = (h**2).sum(-1).mean()
    readings = {
        "eq. 11, N = BT": (eta * b * t / k * (h**2).sum(), eta * b**2 * t / k),
        "eq. 11 per step, N = B": (eta * b / k * (h**2).sum(), eta * b**2 / k),
        "η tr K̂": (eta / k * (h**2).sum(), eta * b / k),
        "½η tr K̂": (eta / (2 * k) * (h**2).sum(), eta * b / (2 * k)),
    }
    for name, (value, lam) in readings.items():
        close(f"λ of {name}", value / t, lam * per_token)
    for name, value, expected in [
        ("medium", 1e-4 * 20 * 512 / 2, 0.512), ("large", 2e-4 * 20 * 1500 / 2, 3.0),
        ("pull of BIP on μ, ANP's over it", 1e-3 / (1 / (2 * 35 * 512)), 35.84),
        ("medium λ after inverted dropout", 1e-3 / 0.5, 2e-3),
        ("large λ after inverted dropout", 2e-3 / 0.35, 5.714e-3),
    ]:
        close(name, value, expected, 1e-4)


def equivalences():
    width, classes, p = 8, 5, 0.02
    h, w = RNG.normal(size=width), 0.5 * RNG.normal(size=(classes, width))
    q = softmax(w @ h)
    loss = lambda z: np.log(np.exp(z).sum(-1)) - z[..., 1]
    masks = np.array(np.meshgrid(*[[0, 1]] * width)).reshape(width, -1).T
    weight = np.prod(np.where(masks == 1, 1 - p, p), axis=1)
    dropped = (weight * loss((masks / (1 - p) * h) @ w.T)).sum()
    spread = (q[:, None] * w**2).sum(0) - (q @ w) ** 2
    adaptive = 0.5 * p / (1 - p) * (h**2 * spread).sum()
    extra = dropped - loss(w @ h)
    check("dropout ≈ ½ p/(1−p) Σ hₖ² Var(wₖ)", abs(extra / adaptive - 1) < 0.05,
          f"{extra:.5f} against {adaptive:.5f}")
    close("E‖dropped h‖² = ‖h‖²/(1−p)",
          (weight * ((masks / (1 - p) * h) ** 2).sum(1)).sum(), (h**2).sum() / (1 - p))

    phi, out = RNG.normal(size=(9, 4)), RNG.normal(size=(7, 4))
    logits = phi @ out.T
    nuclear = np.linalg.svd(logits, compute_uv=False).sum()
    u, s, vt = np.linalg.svd(logits, full_matrices=False)
    u, s, vt = u[:, :4], s[:4], vt[:4]
    a, b = u * np.sqrt(s), vt.T * np.sqrt(s)
    close("a balanced factorisation has ½(‖Φ‖² + ‖W‖²) = ‖ΦWᵀ‖∗",
          0.5 * ((a**2).sum() + (b**2).sum()), nuclear)
    check("… and every other one more", 0.5 * ((phi**2).sum() + (out**2).sum()) >= nuclear)
    c = 0.1
    close("Φ → cΦ, W → W/c leaves the logits", (c * phi) @ (out / c).T, logits)

    x, weights = RNG.normal(size=(1000, 5)) @ RNG.normal(size=(5, 5)), RNG.normal(size=(3, 5))
    second = x.T @ x / 1000
    close("linear layer: E‖Wx‖² = tr(W E[xxᵀ] Wᵀ)",
          ((x @ weights.T) ** 2).sum(1).mean(), np.trace(weights @ second @ weights.T))

    z = 0.02 * RNG.normal(size=50)
    q, uniform = softmax(z), np.full(50, 1 / 50)
    var = z.var()
    close("confidence penalty near uniform: ln V − H ≈ ½ Var(z)",
          (np.log(50) + (q * np.log(q)).sum()) / (var / 2), 1, 0.05)
    close("label smoothing near uniform: KL(u ‖ p) ≈ ½ Var(z)",
          (uniform * np.log(uniform / q)).sum() / (var / 2), 1, 0.05)
    z, y, a = RNG.normal(size=6), 2, 0.1
    q = softmax(z)
    soft = a / 6 + (1 - a) * (np.arange(6) == y)
    close("label smoothing = (1−a) nll + a (ln V + KL(u ‖ p))",
          -(soft * np.log(q)).sum(),
          -(1 - a) * np.log(q[y]) + a * (np.log(6) + (np.log(1 / 6 / q) / 6).sum()))


def information(joint):
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return (joint * np.log(joint / outer)).sum()


def bottleneck():
    joint = RNG.dirichlet(np.ones(12)).reshape(3, 4)  # p(y, t)
    q = RNG.dirichlet(np.ones(3), size=4).T  # q(y | t)
    entropy = -(joint.sum(1) * np.log(joint.sum(1))).sum()
    bound = (joint * np.log(q)).sum()
    check("eq. 5: I ≥ ∫p log q + H(Y) ≥ ∫p log q", information(joint) >= bound + entropy >= bound)
    check("eq. 5 as printed: ∫p log q − H(Y) ≥ ∫p log q is false", bound - entropy < bound)

    worst = -np.inf
    for _ in range(2000):
        xy = RNG.dirichlet(np.ones(12)).reshape(4, 3)
        channel = RNG.dirichlet(0.3 * np.ones(5), size=4)  # p(t | x)
        xt = xy.sum(1)[:, None] * channel
        worst = max(worst, information(xy.T @ channel + 1e-300) - information(xt + 1e-300))
    check("β = 1: I(Y; T) − I(X; T) ≤ 0 for 2,000 random channels", worst <= 1e-12,
          f"largest {worst:.4f}")

    x = RNG.normal(size=200_000)
    close("correlation is not monotone through layers: x → x³ → x",
          [np.corrcoef(x, x**3)[0, 1] < 0.8, np.corrcoef(x, np.cbrt(x**3))[0, 1] > 0.999], [1, 1])
    close("1v1-normal-0.75", -0.5 * np.log(1 - 0.75**2), 0.4133, 1e-4)
    rhos = [np.sqrt(1 - np.exp(-i / 10)) for i in (2, 4, 6, 8, 10)]
    close("20 dimensions: ρ of I = 2, 4, 6, 8, 10", rhos,
          [0.4258, 0.5742, 0.6717, 0.7421, 0.7951], 1e-4)


def main():
    for group in [divergences, gradient_and_forces, rank_deficient, scale_and_blocks,
                  random_decoder, coding_rate, noisy_information, conversions, equivalences,
                  bottleneck]:
        group()
    print(f"{len(FAILED)} failed" if FAILED else "all hold")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
