"""The summary that the program prints to standard output at its end."""

import json
from dataclasses import dataclass


@dataclass(slots=True)
class Summary:
    """Counts of this program's work; `skipped` counts the records that the run had already written."""

    run: str
    acknowledged: dict[str, int]
    sent: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def text(self, form: str) -> str:
        """Return the summary as a table (`form` text) or as one line (json)."""
        acknowledged = sum(self.acknowledged.values())
        rate = acknowledged / self.seconds if self.seconds else 0.0
        if form == "json":
            fields = {
                "run": self.run,
                "sent": self.sent,
                "acknowledged": acknowledged,
                "topics": self.acknowledged,
                "skipped": self.skipped,
                "seconds": round(self.seconds, 3),
                "records_per_second": round(rate),
            }
            return json.dumps(fields) + "\n"
        topics = ", ".join(f"{topic} {count:,}" for topic, count in self.acknowledged.items())
        return (
            f"run           {self.run}\n"
            f"sent          {self.sent:,}\n"
            f"acknowledged  {acknowledged:,} ({topics})\n"
            f"skipped       {self.skipped:,} (already written by this run)\n"
            f"seconds       {self.seconds:.1f}\n"
            f"records/s     {rate:,.0f}\n"
        )
