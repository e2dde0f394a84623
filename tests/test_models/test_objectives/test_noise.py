import torch

from mmmaskclip.models.objectives.noise import sample_noise


def test_pure_function_of_the_seed_wherever_it_stands_in_the_batch():
    seeds = torch.randint(0, 2**62, (8,))
    noise = sample_noise(seeds, 49, stream=0)
    torch.testing.assert_close(sample_noise(seeds.flip(0), 49, stream=0), noise.flip(0), rtol=0, atol=0)
    torch.testing.assert_close(sample_noise(seeds[3:4], 49, stream=0), noise[3:4], rtol=0, atol=0)


def test_uniform_and_independent_even_for_neighbouring_seeds():
    seeds = torch.arange(4096)
    noise = sample_noise(seeds, 64, stream=0)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.003
    assert abs(noise.var() - 1 / 12) < 0.001
    # Every position is equally likely to be the smallest: this is what a mask relies on.
    counts = torch.bincount(noise.argmin(1), minlength=64).float()
    assert ((counts - 64) ** 2 / 64).sum() < 110  # chi-square with 63 degrees of freedom: p = 0.0002
    for other in (sample_noise(seeds, 64, stream=1), sample_noise(seeds + 1, 64, stream=0), noise.roll(1, 1)):
        assert abs(torch.corrcoef(torch.stack((noise.flatten(), other.flatten())))[0, 1]) < 0.01


def test_high_bits_of_the_seed_matter():
    low, high = torch.tensor([5]), torch.tensor([5 + 2**40])
    assert not torch.equal(sample_noise(low, 8, 0), sample_noise(high, 8, 0))
