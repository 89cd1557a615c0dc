"""The trainer of encoders: one loss, of units that are hidden and seen."""

from __future__ import annotations

from torch import Tensor

from vocable.distributed import Processes
from vocable.training.encoder_task import EncoderTask, figures
from vocable.training.prefetch import Batch
from vocable.training.regime import Regime
from vocable.training.trainer import ALONE, Trainer


class EncoderTrainer(Trainer[EncoderTask]):
    """A `Trainer` of one `EncoderTask`. What a regime says of discriminators and spectral losses is left aside."""

    def __init__(self, task: EncoderTask, regime: Regime, *, device: str = "cpu", processes: Processes = ALONE) -> None:
        super().__init__(task, regime, device=device, processes=processes)

    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], float]:
        with self._autocast():
            prediction = self.task.predict(batch)
            loss = self.task.loss(prediction)
        loss.backward()
        return {name: value.detach().clone() for name, value in figures(prediction).items()}, self.task.seconds

    def _figures(self) -> dict[str, float]:
        with self._autocast():
            return super()._figures()
