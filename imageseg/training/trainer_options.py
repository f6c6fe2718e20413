"""TrainerOptions: the arguments of a training run that concern neither data, network nor task."""

from __future__ import annotations

from dataclasses import dataclass

from imageseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Length of a training run, devices, precision, and where the results are stored.

    Args:
        max_epochs: Number of passes over the training split.
        max_steps: Number of optimizer steps. If set, it overrides max_epochs.
        val_every: Number of optimizer steps between validations. If not set, validation follows each epoch.
        patience: Number of validations without improvement of val/miou before training stops. Null disables early stopping.
        accumulate_grad_batches: Number of batches per optimizer step.
        gradient_clip_val: Maximum gradient norm. Null disables gradient clipping.
        precision: Precision of training: "32-true", "bf16-mixed", "16-mixed" or another precision of Lightning. "auto" uses
            bf16-mixed on hardware that supports bfloat16 natively (on a CPU only if a few trial steps of this network are
            faster with it) and 32-true otherwise. The run records its choice.
        compile: Compile the network with torch.compile. Requires a C++ compiler and takes minutes at the start.
        accelerator: Lightning accelerator: "auto", "cpu", "gpu", "mps", ...
        devices: Number of devices, a list such as "0,1", or "auto" to use all that are available.
        num_nodes: Number of nodes.
        strategy: Lightning strategy for several devices, such as "ddp".
        sync_batchnorm: Synchronize batch normalization statistics over all devices.
        deterministic: Use deterministic operations only. On CUDA, operations without a deterministic form produce a warning.
        seed: Random seed for initialization, sampling order, augmentation and dropout.
        log_every_n_steps: Number of optimizer steps between entries in the TensorBoard log.
        output: Folder in which each run creates its own folder.
        name: Name of the run's folder. If not set, it consists of dataset, network and time.
        resume: Checkpoint to resume from, bit for bit. The run continues in the checkpoint's own folder unless name is set.
        images: Number of images of the scored split to predict at the end, with overlays.
        progress_bar: Show a progress bar.
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
    images: int = 3
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
                f"trainer.gradient_clip_val must be above 0, found {self.gradient_clip_val}; null disables gradient clipping"
            )
        if any(method in self.strategy for method in ("spawn", "fork", "notebook")):
            raise InputError(f"trainer.strategy {self.strategy} keeps the scores in another process; use ddp")
