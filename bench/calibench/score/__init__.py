"""What was measured -> the fields of a record: quality on one side, cost on the other."""

from calibench.callables import make_callable

make_callable(__name__)
