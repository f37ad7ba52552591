"""What the `marathon` client 0.13 needs to run on Python 3.10 and later."""

import collections.abc

import marathon.util

# It asks for collections.Iterable, which moved to collections.abc; its module alone is shown the new place.
marathon.util.collections = collections.abc
