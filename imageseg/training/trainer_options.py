"""Training: the options of a run that are neither data, network nor task."""

from __future__ import annotations

from dataclasses import dataclass

from imageseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a run trains, on what, and what it leaves behind.

    Args:
        max_epochs: passes over the training split; the stream of batches does not stop between them.
        max_steps: optimiser steps; set, it takes the place of max_epochs.
        val_every: optimiser steps between validations; unset, one epoch's.
        patience: validations without a better val/miou after which the run stops; null never stops early.
        accumulate_grad_batches: batches per optimiser step.
        gradient_clip_val: the norm to which gradients are cut; null leaves them.
        precision: "32-true", "bf16-mixed", "16-mixed" or another of Lightning's; "auto" is bf16-mixed where bfloat16 is
            hardware and, on a processor, where a few trial steps of this network are faster that way, else 32-true. The run
            keeps what it was.
        compile: compile the network for training with torch.compile, which takes a C++ compiler, and minutes at the start.
        accelerator: "auto", "cpu", "gpu", "mps", ...
        devices: how many, or "auto" for all.
        num_nodes: machines.
        strategy: Lightning's way over several devices.
        sync_batchnorm: batch statistics over all devices.
        deterministic: only operations that repeat exactly (on CUDA it warns of the few that have no such form).
        seed: of everything that is drawn.
        log_every_n_steps: optimiser steps between entries in TensorBoard.
        output: the folder of all runs.
        name: of this run's folder; unset, dataset, network and time.
        resume: a run's checkpoint to go on from, bit for bit, in its own folder unless ``name`` says another.
        pictures: held-out pictures to predict at the end, with overlays.
        progress_bar: show the run's progress.
    """

    max_epochs: int = 50
    max_steps: int | None = None
    val_every: int | None = None
    patience: int | None = 10
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    precision: str = "auto"
    compile: bool = False
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    deterministic: bool = False
    seed: int = 0
    log_every_n_steps: int = 10
    output: str = "runs"
    name: str | None = None
    resume: str | None = None
    pictures: int = 3
    progress_bar: bool = True

    def __post_init__(self) -> None:
        for name in (
            "max_epochs",
            "max_steps",
            "val_every",
            "patience",
            "accumulate_grad_batches",
            "log_every_n_steps",
            "num_nodes",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name} must be 1 or more, found {value}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"trainer.seed must be 0 to 4294967295, found {self.seed}")
        if self.gradient_clip_val is not None and self.gradient_clip_val <= 0:
            raise InputError(
                f"trainer.gradient_clip_val must be above 0, found {self.gradient_clip_val}; null leaves gradients"
            )
        if any(way in self.strategy for way in ("spawn", "fork", "notebook")):
            raise InputError(f"trainer.strategy {self.strategy} keeps the scores in another process; take ddp")
