"""What of a free text identifies somebody, and what is left when that is gone?

`OwnValues` collects an object's known identifiers, `TextCleaner` cleans its texts, `find_patterns`
names forms of identifiers, `is_common` says that a text is everybody's.
"""

from deid.text.cleaner import TextCleaner, is_common
from deid.text.own import OwnValues
from deid.text.patterns import Match, find_patterns

__all__ = ["Match", "OwnValues", "TextCleaner", "find_patterns", "is_common"]
