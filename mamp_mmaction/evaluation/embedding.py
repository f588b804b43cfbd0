"""Features in two dimensions."""

import numpy as np

# Components that t-SNE starts from, as is usual for wide features.
COMPONENTS, PERPLEXITY = 50, 30


def embed(features: np.ndarray, method: str) -> np.ndarray:
    """Lay out features in a plane, by scikit-learn.

    Args:
        features (np.ndarray): (N, D), N at least 3.
        method (str): ``'pca'``, the two directions of the largest variance;
            or ``'tsne'``, neighbours beside each other (van der Maaten and
            Hinton, JMLR 2008), of the first 50 principal components and with
            the perplexity 30, or a third of the samples. It begins at the
            two principal components, and gives the same every time.

    Returns:
        np.ndarray: (N, 2).

    Raises:
        ValueError: scikit-learn is missing, or there are too few features, or
            some that are not finite, or all are equal.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError(
            'features in two dimensions need scikit-learn: '
            "pip install 'mamp-mmaction[probes]'"
        ) from error
    count, width = features.shape
    if count < 3 or width < 2:
        raise ValueError(
            f'features of shape {features.shape} cannot be laid out in two '
            'dimensions; expected 3 samples and 2 channels or more.'
        )
    bad = (~np.isfinite(features)).any(axis=1).sum()
    if bad:
        raise ValueError(
            f'the features of {bad} of {count} samples are NaN or infinite.'
        )
    if not np.ptp(features, axis=0).any():
        raise ValueError(
            f'the features of all {count} samples are equal: an encoder that '
            'gives them has learned nothing.'
        )
    features = features.astype(np.float64)
    if method == 'pca':
        return PCA(2, random_state=0).fit_transform(features)
    reduced = PCA(min(COMPONENTS, count, width), random_state=0)
    return TSNE(
        perplexity=min(PERPLEXITY, (count - 1) / 3), init='pca', random_state=0
    ).fit_transform(reduced.fit_transform(features))
