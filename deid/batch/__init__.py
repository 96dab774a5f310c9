"""How is a whole archive de-identified, and its output kept whole? (public API)

Modules of the package are imported where they are used: the engine is heavy, and only workers
need it.
"""
