"""A task of training small enough for tests: a network learns which tone belongs to which code."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vocable.training.adversarial import Batch, Rendition

CODES = 3
HOP = 64


class Singer(nn.Module):
    """Codes [B, T] to waveforms [B, 64 T]: a row of samples for each code, some of it dropped in training."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(CODES, 16)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(16, HOP)
        self.register_buffer("seen", torch.zeros(CODES))

    def forward(self, codes: Tensor) -> Tensor:
        if self.training:
            self.seen += torch.bincount(codes.flatten(), minlength=CODES)
        return self.head(self.dropout(self.table(codes))).flatten(1)


class Tones:
    """Code k sounds as k + 1 periods a hop. `broken`: a step whose target is not finite."""

    sample_rate = 8000

    def __init__(self, *, broken: int | None = None) -> None:
        torch.manual_seed(0)
        self.network = Singer()
        self.broken = broken

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        generator = torch.Generator().manual_seed(step * world + rank)
        codes = torch.randint(CODES, (4, 1), generator=generator).expand(-1, 10)
        time = torch.arange(HOP * 10) / HOP
        real = 0.5 * torch.sin(2 * math.pi * (codes[:, :1] + 1) * time)
        if step == self.broken:
            real[0, 0] = math.nan
        return {"codes": codes.contiguous(), "real": real}

    def render(self, batch: Batch) -> Rendition:
        weight = self.network.table.weight
        return Rendition(batch["real"], self.network(batch["codes"]), {"size": 1e-3 * weight.square().mean()})

    def judge(self) -> dict[str, float]:
        assert not self.network.training
        batch = self.batch(10**6, rank=0, world=1)
        fake = self.network(batch["codes"])
        return {"mel": float((fake.abs().mean() - batch["real"].abs().mean()).abs())}
