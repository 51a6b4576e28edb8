"""The processes of a run, on one machine or several, by Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from auris.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def new_fabric(processes: int, bf16: bool, device: str = "auto", idle: bool = False) -> Fabric:
    """The processes of a run, launched.

    Under torchrun they are those that it started, on however many machines; otherwise
    `processes` on this machine, which run the same command again.

    Args:
        processes: how many, outside torchrun.
        bf16: compute in bfloat16 where autocast does.
        idle: whether some weights get no gradient in some steps.
        device: "auto" or a device that Fabric knows as an accelerator, such as "cpu" or "cuda".

    Raises:
        UsageError: there is no such device, or not so many of it.
        MissingExtra: Lightning Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise MissingExtra(
            "Training needs Lightning Fabric",
            "it is not installed",
            "run pip install 'auris-asr[train]'",
        ) from error
    # It prints a line at every start.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    nodes = 1
    if "LOCAL_WORLD_SIZE" in os.environ:  # Set by torchrun for every process that it starts.
        processes = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // processes
    try:
        fabric = Fabric(
            accelerator=device,
            devices=processes,
            num_nodes=nodes,
            strategy=DDPStrategy(find_unused_parameters=idle) if processes * nodes > 1 else "auto",
            precision="bf16-mixed" if bf16 else "32-true",
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise UsageError(
            "Training needs a device that this machine has, once for every process",
            f"{processes} of {device} were requested ({error})",
            "choose --device cpu, or fewer --processes",
        ) from error
    fabric.launch()
    return fabric


def leave() -> None:
    """End the communication with the other processes, if there are any.

    Otherwise threads that wait for them still run when the interpreter exits, which then sometimes
    aborts. Everything else that refers to the group, such as a wrapped model, has to be released
    before. If the reducer of a wrapped model is the last to refer to it, torch destroys the group
    without releasing the GIL; the group then joins its threads, one of which may wait for the GIL.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
