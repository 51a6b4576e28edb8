"""Auris in the shape of other packages, for programs that were written for them.

Each module here has the classes of the package that it is named after. Options that change the
meaning and are not supported are refused with an error that names them. Those that only tune speed
or decoding have no effect, and a warning says so.
"""
