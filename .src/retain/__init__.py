"""retain: streaming video perception with bounded memory.

The package is six folders at the top of the repository (``pipeline``, ``memory``, ``models``,
``kernels``, ``apps``, ``datasets``); the links beside this file give them their import names.
Importing ``retain`` loads nothing else.
"""

__version__ = "0.1.0"
