"""How many jobs to claim at once: short ones in lists, since a claim costs a commit; of long ones, one a free child."""

from __future__ import annotations

_AHEAD_S = 0.05  # work claimed beyond what children can take at once
_MOST = 64
_WEIGHT = 0.2  # of the newest run in the mean


class Pace:
    """Learns from the runs that ended. Until the first one nothing is claimed ahead."""

    def __init__(self) -> None:
        self._mean_s: float | None = None

    def note_run(self, run_s: float) -> None:
        # One long run among short ones ends the claiming ahead; it comes back when the mean has sunk again.
        self._mean_s = run_s if self._mean_s is None else self._mean_s + _WEIGHT * (run_s - self._mean_s)

    def ahead(self, children: int) -> int:
        """Jobs that `children` end within 50 ms, as far as is known."""
        if self._mean_s is None:
            return 0
        return min(_MOST, int(children * _AHEAD_S / max(self._mean_s, 1e-6)))
