"""The hooks that move a batch to its device, of which mostly there is nothing to do."""

from ..bus.log.marks import notice

TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
TRANSFERRED = notice("on_before_batch_transfer", "on_after_batch_transfer")
"""What is noted of a batch that nobody moves anywhere."""
