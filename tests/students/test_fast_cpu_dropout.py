"""Dropout's mask on a CPU: it has the requested share of ones, and afterwards torch's operator is back."""

from __future__ import annotations

import pytest
import torch

from evokd_data.students import fast_cpu_dropout

pytestmark = pytest.mark.slow

COUNT = 400_000


@pytest.fixture(autouse=True)
def amd(monkeypatch):
    monkeypatch.setattr(fast_cpu_dropout, "_processor", lambda: "AMD EPYC")


def mask(p: float, *shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.empty(*shape, dtype=dtype).bernoulli_(p)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_ones_are_as_frequent_as_asked_for_and_know_nothing_of_each_other(p):
    with fast_cpu_dropout.fast_dropout():
        drawn = mask(p, COUNT)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    spread = (p * (1 - p) / COUNT) ** 0.5
    for lane in range(fast_cpu_dropout.LANES):
        assert abs(drawn[lane :: fast_cpu_dropout.LANES].mean() - p) < 5 * 2 * spread
    for distance in (1, 2, 3, 4, 8, 312, 624, 1248):  # 624 is the state of torch's generator
        both = (drawn[distance:] * drawn[:-distance]).mean()
        assert abs(both - p * p) < 5 * spread


def test_never_and_always():
    with fast_cpu_dropout.fast_dropout():
        assert mask(0.0, 10_001).sum() == 0
        assert mask(1.0, 10_001).sum() == 10_001
        assert mask(0.5, 0).numel() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.float64])
def test_any_kind_of_tensor_gets_the_same_mask(dtype):
    with fast_cpu_dropout.fast_dropout():
        assert torch.equal(mask(0.9, 7, 11, dtype=dtype).float(), mask(0.9, 7, 11))
        turned = torch.empty(11, 7).t()
        torch.manual_seed(1)
        assert torch.equal(turned.bernoulli_(0.9), mask(0.9, 7, 11))


def test_dropout_of_modules_and_of_attention_goes_through_it(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        fast_cpu_dropout,
        "bernoulli_",
        lambda self, p=0.5, *, generator=None: shapes.append(tuple(self.shape)) or self.fill_(1),
    )
    query = torch.ones(1, 2, 3, 32)
    with fast_cpu_dropout.fast_dropout():
        assert torch.equal(torch.nn.Dropout(0.5)(torch.ones(4, 5)), torch.full((4, 5), 2.0))
        torch.nn.functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    assert shapes == [(4, 5), (1, 2, 3, 3)]


def test_a_seed_decides_and_torchs_own_is_back_afterwards():
    torch_mask = mask(0.9, COUNT)
    with fast_cpu_dropout.fast_dropout():
        first, again, other = mask(0.9, COUNT), mask(0.9, COUNT), mask(0.9, COUNT, seed=2)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, torch_mask)
    assert torch.equal(mask(0.9, COUNT), torch_mask)
    with pytest.raises(ZeroDivisionError), fast_cpu_dropout.fast_dropout():
        raise ZeroDivisionError
    assert torch.equal(mask(0.9, COUNT), torch_mask)


def test_intels_processors_keep_torchs_own(monkeypatch):
    monkeypatch.setattr(fast_cpu_dropout, "_processor", lambda: "Intel(R) Xeon(R) Platinum 8488C")
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    torch_mask = mask(0.9, COUNT)
    with fast_cpu_dropout.fast_dropout():
        assert torch.equal(mask(0.9, COUNT), torch_mask)
