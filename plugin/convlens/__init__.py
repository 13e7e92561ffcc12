"""Look inside trained convolutional networks, and fail the build when what is seen is wrong.

The public names stand in `__init__.pyi`. Each is loaded when it is first used: importing `convlens`
imports neither Keras nor NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
