"""The losses, each as its paper writes it: a function yields its rows' losses, None for one that doesn't count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

from infonce_ref.conformance.oracle.second.dual import ZERO, Dual, is_negative, is_positive, mean, total
from infonce_ref.conformance.oracle.second.scores import (
    Key,
    Scores,
    allowed,
    exact,
    explicit,
    inner,
    positive_column,
    queries,
    rows_of,
    two_views,
)
from infonce_ref.conformance.problem import FORMATS

Losses = Iterator[Dual | None]


def minus_log(probability: Dual) -> Dual:
    return -probability.log()


# --- one positive ----------------------------------------------------------------------------------


def cross_entropy(s: Scores, positive: Dual, negatives: Sequence[Dual]) -> Dual:
    """−log(e^{s_p} / Σ e^s), the positive among the candidates."""
    return minus_log(positive.exp() / s.sum_exp([positive, *negatives]))


def one_of(s: Scores, anchor: Key, positive: Key, negatives: Sequence[Key]) -> Dual:
    """The cross entropy of telling an anchor's positive from its negatives."""
    return cross_entropy(s, s.positive(anchor, positive), [s.logit(anchor, key) for key in negatives])


def info_nce(s: Scores) -> Losses:
    for query, positive, column, negatives in queries(s.problem):
        s_p = biased(s, s.positive(query, positive), column)
        yield cross_entropy(s, s_p, [biased(s, s.logit(query, key), c) for c, key in negatives])


def biased(s: Scores, logit: Dual, column: int | None) -> Dual:
    """The logit plus its column's logit_bias, if it has any."""
    return logit if column is None or "logit_bias" not in s.problem.arrays else logit + s.entry("logit_bias", column)


def info_nce_from_logits(s: Scores) -> Losses:
    count, columns = s.problem.arrays["logits"].shape
    for i in range(count):
        p = positive_column(s.problem, i, columns)
        s_p = (s.entry("logits", i, p) - s.margin) / s.temperature
        negatives = [c for c in range(columns) if c != p and allowed(s.problem, i, c)]
        yield cross_entropy(s, s_p, [s.entry("logits", i, c) / s.temperature for c in negatives])


def clip(s: Scores) -> Losses:
    images, texts = rows_of(s.problem, "image"), rows_of(s.problem, "text")
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        other_texts = [texts[j] for j in range(len(texts)) if j != i and allowed(s.problem, i, j)]
        other_images = [images[j] for j in range(len(images)) if j != i and allowed(s.problem, j, i)]
        to_text = one_of(s, image, text, other_texts + explicit(s.problem, "negative_texts", i))
        to_image = one_of(s, text, image, other_images + explicit(s.problem, "negative_images", i))
        yield mean([to_text, to_image])


def nt_xent(s: Scores) -> Losses:
    for anchor, positive, negatives in two_views(s.problem):
        yield one_of(s, anchor, positive, negatives)


def moco(s: Scores) -> Losses:
    for i, query in enumerate(rows_of(s.problem, "query")):
        yield one_of(s, query, ("positive_key", i), rows_of(s.problem, "queue"))


def n_pair(s: Scores) -> Losses:
    """The logits are the inner products, whatever the problem says of similarity and temperature."""
    keys = rows_of(s.problem, "positive_key")
    for i, query in enumerate(rows_of(s.problem, "query")):
        negatives = [key for c, key in enumerate(keys) if c != i and allowed(s.problem, i, c)]
        s_p, *products = (inner(s.given(query), s.given(key)) for key in (keys[i], *negatives))
        yield cross_entropy(s, s_p, products)


def gte(s: Scores) -> Losses:
    """Query i's softmax over q_i→d_j, q_i→q_j, d_i→q_j and d_i→d_j; of those with j = i only the first, once."""
    q, d = rows_of(s.problem, "query"), rows_of(s.problem, "document")
    count = len(q)
    for i in range(count):
        blocks = ((q[i], d), (q[i], q), (d[i], q), (d[i], d))
        yield cross_entropy(
            s,
            s.positive(q[i], d[i]),
            [
                s.logit(one, others[j])
                for block, (one, others) in enumerate(blocks)
                for j in range(count)
                if j != i and allowed(s.problem, i, block * count + j)
            ],
        )


def matryoshka(s: Scores) -> Losses:
    """Every row's Σ_m w_m −log(…), each of the first d_m entries of the rows: what follows them isn't looked at."""
    dims = s.problem.option("dims")
    given = s.problem.option("weights") or [1.0] * len(dims)
    weights = [exact(f"weights[{m}]", float(w)) for m, w in enumerate(given)]
    for parts in zip(*(info_nce(s.cut(d)) for d in dims), strict=True):
        yield total(part.times(w) for part, w in zip(parts, weights, strict=True) if part is not None)


# --- the positive not in the denominator, or the negatives reweighted ------------------------------


def dcl(s: Scores) -> Losses:
    """−log(e^{w s_p} / Σ e^s), the sum over the negatives alone; w is 1, or DCLW's weight of the pair."""
    weights = pair_weights(s)
    for r, (anchor, positive, negatives) in enumerate(two_views(s.problem)):
        if not negatives:
            yield None
            continue
        numerator = s.positive(anchor, positive).times(weights[r % len(weights)]).exp()
        yield minus_log(numerator / s.sum_exp(s.logit(anchor, key) for key in negatives))


def pair_weights(s: Scores) -> list[Decimal]:
    """w_i = 2 − e^{sim(a_i, b_i)/σ} / mean_j e^{sim(a_j, b_j)/σ}, a constant."""
    pairs = list(zip(rows_of(s.problem, "view_a"), rows_of(s.problem, "view_b"), strict=True))
    if s.problem.option("sigma") is None:
        return [Decimal(1) for _ in pairs]
    alike = [(s.similarity(a, b).value / s.option("sigma")).exp() for a, b in pairs]
    return [2 - len(pairs) * x / sum(alike) for x in alike]


def debiased(s: Scores) -> Losses:
    for anchor, positive, keys in two_views(s.problem):
        negatives = [s.logit(anchor, key) for key in keys]
        s_p = s.logit(anchor, positive)
        yield corrected(s, s_p, negatives, mean(x.exp() for x in negatives)) if negatives else ZERO


def hard_negative(s: Scores) -> Losses:
    beta = s.option("beta")
    for anchor, positive, keys in two_views(s.problem):
        negatives = [s.logit(anchor, key) for key in keys]
        s_p = s.logit(anchor, positive)
        sharpened = s.sum_exp(x.times(1 + beta) for x in negatives)
        weights = [x.times(beta) for x in negatives]
        s.note([s_p, *negatives], weights)  # a rare weight's part of a rare denominator
        yield corrected(s, s_p, negatives, sharpened / s.sum_exp(weights)) if negatives else ZERO


def corrected(s: Scores, s_p: Dual, negatives: Sequence[Dual], average: Dual) -> Dual:
    """−log(e^{s_p} / (e^{s_p} + M g)), g = (average − prior e^{s_p}) / (1 − prior); of cosines at least e^{−1/τ}."""
    prior = s.option("prior")
    lowest = Dual(Decimal(-1), {}) / s.temperature
    s.note([s_p, *negatives, lowest])
    alike, floor = s_p.exp(), lowest.exp()
    false = alike.times(prior)
    among = average.value + false.value  # what rounding is relative to
    g = (average - false).times(1 / (1 - prior))
    if s.problem.similarity == "cosine":
        g = floor if is_negative(g - floor, among) else g
    elif not is_positive(g, among):
        raise ValueError(
            f"prior is {prior}: the average less prior times the positive isn't > 0, there is no exact answer"
        )
    return minus_log(alike / (alike + g.times(Decimal(len(negatives)))))


# --- several positives -----------------------------------------------------------------------------


def mil_nce(s: Scores) -> Losses:
    shape = s.problem.arrays["positive_bags"].shape
    bags = [[("positive_bags", i, b) for b in range(shape[1])] for i in range(shape[0])]
    ids = range(shape[0])
    for i, query in enumerate(rows_of(s.problem, "query")):
        positives = [s.positive(query, key) for key in bags[i]]
        others = [(j, b) for j in ids if j != i for b in range(shape[1])]
        to_bags = [s.logit(query, bags[j][b]) for j, b in others if allowed(s.problem, i, j, b)]
        to_queries = [s.logit(("query", j), bags[i][b]) for j, b in others if allowed(s.problem, j, i, b)]
        directions = [to_bags, to_queries] if s.problem.option("symmetric") else [to_bags]
        yield mean(any_of(s, positives, negatives) for negatives in directions)


def any_of(s: Scores, positives: Sequence[Dual], negatives: Sequence[Dual]) -> Dual:
    """−log(Σ_P e^s / Σ_{P ∪ N} e^s)."""
    s.note(positives, [*positives, *negatives])  # a rare positive's part of a rare miss
    return minus_log(s.sum_exp(positives) / s.sum_exp([*positives, *negatives]))


def soft_nce(s: Scores) -> Losses:
    """−Σ_c t_c log(e^{s_c} / Σ e^s) over the candidates that the mask leaves."""
    keys = rows_of(s.problem, "keys")
    for i, query in enumerate(rows_of(s.problem, "query")):
        targets = targets_of(s, i)
        logits = {c: s.logit(query, key) for c, key in enumerate(keys) if allowed(s.problem, i, c)}
        denominator = s.sum_exp(logits.values())
        yield total(minus_log(x.exp() / denominator).times(targets[c]) for c, x in logits.items() if targets[c] != 0)


def targets_of(s: Scores, i: int) -> list[Decimal]:
    """Row i of the targets: a distribution over the candidates, up to rounding."""
    targets = [exact(f"targets[{i}, {c}]", float(t)) for c, t in enumerate(s.problem.arrays["targets"][i])]
    rounding = 4 * len(targets) * Decimal(FORMATS[s.problem.dtype].unit)
    masked = any(t != 0 and not allowed(s.problem, i, c) for c, t in enumerate(targets))
    if masked or min(targets) < 0 or abs(sum(targets, Decimal(-1))) > rounding:
        raise ValueError(f"targets[{i}] is no distribution over the candidates: there is no exact answer")
    return targets


def sup_con(s: Scores) -> Losses:
    formula = SUP_CON[str(s.problem.option("variant"))]
    for i, anchor in enumerate(rows_of(s.problem, "features")):
        alike, different = by_label(s, i)
        positives = [s.positive(anchor, key) for key in alike]
        yield formula(s, positives, [s.logit(anchor, key) for key in different]) if positives else None


def by_label(s: Scores, i: int) -> tuple[list[Key], list[Key]]:
    """Anchor i's positives, the keys with its label, and its negatives, the others that the mask leaves."""
    own, arrays = "keys" not in s.problem.arrays, s.problem.arrays
    labels = arrays["labels" if own else "key_labels"]
    keys = rows_of(s.problem, "features" if own else "keys")
    same = [bool(label == arrays["labels"][i]) for label in labels]
    others = [c for c in range(len(keys)) if not (own and c == i)]
    return (
        [keys[c] for c in others if same[c]],
        [keys[c] for c in others if not same[c] and allowed(s.problem, i, c)],
    )


def sup_con_out(s: Scores, positives: Sequence[Dual], negatives: Sequence[Dual]) -> Dual:
    """mean_P −log(e^{s_p} / Σ_{P ∪ N} e^s)."""
    denominator = s.sum_exp([*positives, *negatives])
    return mean(minus_log(x.exp() / denominator) for x in positives)


def sup_con_in(s: Scores, positives: Sequence[Dual], negatives: Sequence[Dual]) -> Dual:
    """−log(mean_P e^{s_p} / Σ_{P ∪ N} e^s)."""
    s.note(positives, [*positives, *negatives])  # a rare positive's part of a rare miss
    denominator = s.sum_exp([*positives, *negatives])
    return minus_log(mean(x.exp() / denominator for x in positives))


def sincere(s: Scores, positives: Sequence[Dual], negatives: Sequence[Dual]) -> Dual:
    """mean_P −log(e^{s_p} / (e^{s_p} + Σ_N e^s))."""
    return mean(cross_entropy(s, x, negatives) for x in positives)


SUP_CON: Mapping[str, Callable[[Scores, Sequence[Dual], Sequence[Dual]], Dual]] = {
    "out": sup_con_out,
    "in": sup_con_in,
    "sincere": sincere,
}


# --- no softmax ------------------------------------------------------------------------------------


def siglip(s: Scores) -> Losses:
    """Σ_j −log sigmoid(y_ij (s_ij + b)), y = 1 for i = j, else −1."""
    bias, texts = s.scalar("bias"), rows_of(s.problem, "text")
    for i, image in enumerate(rows_of(s.problem, "image")):
        agreed = {j: s.logit(image, text) + bias for j, text in enumerate(texts) if j == i or allowed(s.problem, i, j)}
        yield total(minus_log(sigmoid(s, z if j == i else -z)) for j, z in agreed.items())


def sigmoid(s: Scores, z: Dual) -> Dual:
    """1 / (1 + e^{−z})."""
    return Dual(Decimal(1), {}) / s.sum_exp([ZERO, -z])


def triplet(s: Scores) -> Losses:
    """The mean over the negatives of max(0, sim_j − sim_p + margin)."""
    for query, positive, _, negatives in queries(s.problem):
        hinges = [hinge(s, query, positive, key) for _, key in negatives]
        yield mean(hinges) if hinges else None


def hinge(s: Scores, query: Key, positive: Key, negative: Key) -> Dual:
    """max(0, sim_j − sim_p + margin), at the kink with slope 0."""
    excess = s.similarity(query, negative) - s.similarity(query, positive) + s.margin
    among = s.size(query, negative) + s.size(query, positive) + abs(s.margin.value)
    return excess if is_positive(excess, among) else ZERO


LOSSES: Mapping[str, Callable[[Scores], Losses]] = {
    loss.__name__: loss
    for loss in (
        info_nce,
        info_nce_from_logits,
        clip,
        nt_xent,
        dcl,
        debiased,
        hard_negative,
        moco,
        gte,
        mil_nce,
        soft_nce,
        sup_con,
        siglip,
        triplet,
        n_pair,
        matryoshka,
    )
}
