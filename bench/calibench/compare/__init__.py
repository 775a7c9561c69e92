"""Records against records: which differences are real, and what follows from that."""

from calibench.callables import make_callable

make_callable(__name__)
