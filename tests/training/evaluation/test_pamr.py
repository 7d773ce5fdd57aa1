import math

import numpy as np
import pytest
import torch

from training.evaluation.pamr import affinity, refine


def naive(maps, image, iterations, dilations):
    """The formula pixel by pixel: no shifting, no padding, only clamped indices."""
    channels, height, width = image.shape
    around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    weights = {}
    for y in range(height):
        for x in range(width):
            places, similarity = [], []
            window = [
                (min(max(y + d * dy, 0), height - 1), min(max(x + d * dx, 0), width - 1))
                for d in dilations
                for dy, dx in around
            ]
            deviation = [np.std([image[c, i, j] for i, j in window], ddof=1) for c in range(channels)]
            for d in dilations:
                for dy, dx in around:
                    if (dy, dx) == (0, 0):
                        continue
                    i, j = min(max(y + d * dy, 0), height - 1), min(max(x + d * dx, 0), width - 1)
                    terms = [
                        -abs(image[c, y, x] - image[c, i, j]) / (1e-8 + 0.1 * deviation[c]) for c in range(channels)
                    ]
                    places.append((i, j))
                    similarity.append(sum(terms) / channels)
            powers = [math.exp(value) for value in similarity]
            weights[y, x] = [(place, power / sum(powers)) for place, power in zip(places, powers, strict=True)]
    for _ in range(iterations):
        refined = np.zeros_like(maps)
        for (y, x), neighbours in weights.items():
            refined[:, y, x] = sum(weight * maps[:, i, j] for (i, j), weight in neighbours)
        maps = refined
    return maps


def test_refinement_equals_the_formula_pixel_by_pixel():
    rng = np.random.default_rng(0)
    image, maps = rng.uniform(0, 255, (3, 6, 7)), rng.uniform(0, 1, (2, 6, 7))
    refined = refine(torch.from_numpy(maps), torch.from_numpy(image), iterations=3, dilations=(1, 2, 4))
    np.testing.assert_allclose(refined.numpy(), naive(maps, image, 3, (1, 2, 4)), rtol=1e-9)


def test_weights_of_a_pixels_neighbours_sum_to_one():
    image = torch.rand(3, 9, 5, generator=torch.Generator().manual_seed(0))
    weights = affinity(image, (1, 2))
    assert weights.shape == (16, 9, 5)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(9, 5))


def test_maps_follow_an_edge_of_the_image():
    image = torch.zeros(3, 16, 16)
    image[:, :, 8:] = 255
    maps = torch.zeros(1, 16, 16)
    maps[:, :, :10] = 1.0  # two columns too far
    refined = refine(maps, image)[0]
    assert refined[:, :8].min() > 0.9
    assert refined[:, 8:10].max() < 0.5


def test_constant_map_stays_so_that_background_needs_no_refinement():
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(refine(torch.full((1, 8, 8), 0.4), image), torch.full((1, 8, 8), 0.4))


def test_flat_image_gives_finite_maps():
    assert refine(torch.rand(1, 8, 8), torch.zeros(3, 8, 8)).isfinite().all()


@pytest.mark.parametrize(
    ("maps", "image", "options"),
    [
        ((1, 8, 8), (3, 8, 9), {}),
        ((1, 8, 8), (1, 8, 8), {}),
        ((1, 8, 8), (3, 8, 8), {"iterations": 0}),
        ((1, 8, 8), (3, 8, 8), {"dilations": (0, 1)}),
    ],
)
def test_what_does_not_fit_is_refused(maps, image, options):
    with pytest.raises(ValueError, match="expected"):
        refine(torch.zeros(maps), torch.zeros(image), **options)
