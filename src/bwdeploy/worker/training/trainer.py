"""transformers' Trainer on ModelOpt's fake-quantized model, on one GPU, several, or a CPU.

The Trainer brings the loop, gradient clipping and, through accelerate, FSDP2. ModelOpt's own QATTrainer and
QADTrainer are not used: they keep quantizer state as pickle, compute in the weights' type, and know neither a
stop on the divergence from the teacher nor a training that goes on inside a shuffled pass. Every step is
given to `loop`, which validates, keeps checkpoints and stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
import transformers
from torch import distributed
from torch.nn import functional

from bwdeploy.worker.training.master import optimizer_tensors, restore_optimizer
from bwdeploy.worker.training.schedule import batch_order, rate_factor
from bwdeploy.worker.training.validation import autocast, kl_divergence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from bwdeploy.worker.training.task import Task


class Watcher(Protocol):
    """Who follows the steps."""

    first: int
    """The step of the checkpoint that the training goes on from; 0: it begins."""

    def took_loss(self, loss: Tensor) -> None:
        """The loss of a step, still on the device."""

    def after_step(self, step: int, trainer: FakeQuantTrainer) -> bool:
        """A step is done; whether the training ends with it."""
        ...


class _OneDevice(transformers.TrainingArguments):  # type: ignore[misc]  # transformers has no types here
    """Arguments of a process that uses one GPU, however many it sees."""

    @property
    def n_gpu(self) -> int:
        return 1


class _Steps(transformers.TrainerCallback):  # type: ignore[misc]
    """Gives every step of the Trainer to the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.trainer: FakeQuantTrainer | None = None

    def on_train_begin(self, *_arguments: Any, **_more: Any) -> None:  # noqa: ANN401 - the Trainer's
        if self.trainer is not None and self._watcher.first:
            self.trainer.restore_optimizer()

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **_more: Any) -> Any:  # noqa: ANN401
        if self.trainer is not None:
            ended = self._watcher.after_step(self._watcher.first + state.global_step, self.trainer)
            control.should_training_stop = control.should_training_stop or ended
        return control


class FakeQuantTrainer(transformers.Trainer):  # type: ignore[misc]
    """The Trainer over the steps that are left."""

    optimizer: Any

    def __init__(self, model: Any, task: Task, watcher: Watcher) -> None:  # noqa: ANN401
        self._task, self._watcher = task, watcher
        steps = _Steps(watcher)
        super().__init__(model=model, args=self._arguments(), callbacks=[steps])
        steps.trainer = self
        self.remove_callback(transformers.PrinterCallback)

    def _arguments(self) -> transformers.TrainingArguments:
        training = self._task.training
        ranks = distributed.get_world_size() if distributed.is_initialized() else 1
        return _OneDevice(
            output_dir=str(self._task.state.scratch),
            max_steps=training.steps - self._watcher.first,
            per_device_train_batch_size=training.batch_size // ranks,
            use_cpu=self._task.device == "cpu",
            gradient_checkpointing=training.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            seed=training.seed + self._watcher.first,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            logging_nan_inf_filter=False,  # waits for the device at every step; `loop` looks at the losses
            report_to=[],
            disable_tqdm=True,
        )

    def get_train_dataloader(self) -> Any:  # noqa: ANN401
        """The batches of the steps that are left, in their order."""
        order = batch_order(self._task.training, after=self._watcher.first)
        rows = [{"input_ids": self._task.sequences[index]} for index in order]
        loader = torch.utils.data.DataLoader(rows, batch_size=self.args.per_device_train_batch_size)
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: Any = None) -> Any:  # noqa: ANN401
        """AdamW on the quantized weights. No decay: they start where they are good."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                list(self._trained(model or self.model).values()),
                lr=self._task.training.learning_rate,
                weight_decay=0.0,
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:  # noqa: ANN401, ARG002
        """The rates of the steps that are left."""
        training, first = self._task.training, self._watcher.first
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: rate_factor(training, first + step)
        )
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,  # noqa: ANN401
        inputs: dict[str, Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's signature
        num_items_in_batch: Any = None,  # noqa: ANN401, ARG002
    ) -> Any:  # noqa: ANN401
        """Next-token likelihood (qat), or divergence from the teacher (qad); nats per token."""
        tokens = inputs["input_ids"]
        with autocast(self._task.device):
            outputs = model(input_ids=tokens, use_cache=False)
        logits = outputs.logits[:, :-1].flatten(0, 1).float()
        loss = (
            functional.cross_entropy(logits, tokens[:, 1:].flatten())
            if self._task.teacher is None
            else self._distillation(tokens, logits)
        )
        self._watcher.took_loss(loss.detach())
        return (loss, outputs) if return_outputs else loss

    def _distillation(self, tokens: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._task.teacher(input_ids=tokens, use_cache=False).logits[:, :-1].flatten(0, 1)
        temperature = self._task.training.temperature
        # Its square keeps the gradients' size (Hinton et al. 2015, section 2).
        return kl_divergence(wanted, logits, temperature=temperature) * (temperature**2 / len(logits))

    def optimizer_tensors(self) -> Iterable[tuple[str, Tensor]]:
        """The optimizer's state; see `master.optimizer_tensors`."""
        return optimizer_tensors(self._plain_optimizer(), self._trained(self.model))

    def restore_optimizer(self) -> None:
        """Take the optimizer's state from the checkpoint that the run goes on from."""
        saved = self._task.state.optimizer(self._watcher.first)
        restore_optimizer(self._plain_optimizer(), self._trained(self.model), saved)

    def _plain_optimizer(self) -> Any:  # noqa: ANN401
        return getattr(self.optimizer, "optimizer", self.optimizer)

    @staticmethod
    def _trained(model: Any) -> dict[str, Tensor]:  # noqa: ANN401
        return {name: one for name, one in model.named_parameters() if one.requires_grad}
