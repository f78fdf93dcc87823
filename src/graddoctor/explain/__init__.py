"""The vanishing gradient problem explained: topics, somebody's own findings, and a page whose pictures are computed.

>>> from graddoctor import explain
>>> explain.topic("dead units").headline
'Units give the same output and no gradient for every sample, so nothing can bring them back.'
"""

from graddoctor.explain.listing import listing as listing
from graddoctor.explain.of_report import explained as explained
from graddoctor.explain.of_topic import topic as topic
