"""Auris in the shape of other packages, for programs that were written for them.

Each module here has the class of the package that it is named after. Options that
change the meaning and cannot be honoured are refused by name; those that only tune speed or
decoding have no effect, and a warning says so.
"""
