"""Auris in the shape of other packages, for programs that were written for them.

Each module here has the class of the package that it is named after. Options that cannot be
honoured are refused by name, never ignored.
"""
