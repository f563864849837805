"""One page about a run that can be read anywhere: figures, curves, best and worst images, how it was made.

write_report(Path("runs/mine"), open_dataset("my-data"))
"""

from dilated.report.write import write_report

__all__ = ["write_report"]
