"""What everything that a report can name is: conditions, causes and remedies, as the documentation has them.

>>> from graddoctor.topics import find
>>> find("poor initialization").term
<Condition.POOR_INITIALIZATION: 'poor_initialization'>
>>> find("GRU with bias 1 in place of RNN").name
'a-gated-cell-in-place-of-nnrnn'
"""

from graddoctor.topics.search import about as about
from graddoctor.topics.search import find as find
from graddoctor.topics.search import of as of
from graddoctor.topics.search import recognised as recognised
from graddoctor.topics.topic import Topic as Topic
from graddoctor.topics.topic import every as every
