"""The keys under which the ranks of one run use the store that all nodes share.

A store may outlive a restart of its processes, as that of torchrun does, and may serve several
runs. A key therefore names the run, its attempt, the restart, and which agreement it is: a trainer
that fits and then tests agrees anew, with points that begin at 0 again.
"""

from .messages import Readiness

ROOT = "nightbus"


class StoreKeys:
    """The keys of one agreement.

    Args:
        run: id of the run.
        attempt: of the run.
        restart: how often the launcher has started the processes again.
        session: how many agreements these processes had before.
    """

    def __init__(self, run: str, attempt: int, restart: int, session: int = 0) -> None:
        self.prefix = f"{ROOT}/{run}/{attempt}/{restart}/{session}"
        self.failure = f"{self.prefix}/failure"  # compare-and-set: the first word stands
        self.asks = f"{self.prefix}/asks"  # a queue
        self.left = f"{self.prefix}/left"  # a counter: all stay until all have left

    def heartbeat(self, node: int) -> str:
        """Return the key of a node's last heartbeat."""
        return f"{self.prefix}/heartbeat/{node}"

    def proposal(self, number: int) -> str:
        """Return the key of a proposal."""
        return f"{self.prefix}/proposal/{number}"

    def answers(self, readiness: Readiness, number: int) -> str:
        """Return the key of the counter of such answers to a proposal.

        Args:
            readiness: which answers are counted.
            number: of the proposal.
        """
        return f"{self.prefix}/{readiness}/{number}"

    def decision(self, number: int) -> str:
        """Return the key of what became of a proposal."""
        return f"{self.prefix}/decision/{number}"
