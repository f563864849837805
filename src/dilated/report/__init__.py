"""One page about a run that can be read anywhere: figures, curves, best and worst images, how it was made.

write_report("runs/mine", "my-data")
"""

from dilated.report.write import write_report

__all__ = ["write_report"]
