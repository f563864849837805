"""Receptive fields: by arithmetic, measured on any network, and by gradient."""

from dilated.fields.arithmetic import Layer, coverage, output_size, receptive_field
from dilated.fields.effective import effective_field

__all__ = ["Layer", "coverage", "effective_field", "output_size", "receptive_field"]
