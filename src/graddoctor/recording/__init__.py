"""What was observed: step x tensor x statistic, in memory or in one SQLite file."""

from graddoctor.recording.environment import environment as environment
from graddoctor.recording.recording import Recording as Recording
from graddoctor.recording.stage import Stage as Stage
from graddoctor.recording.track import Event as Event
from graddoctor.recording.track import Series as Series
from graddoctor.recording.track import Table as Table
from graddoctor.recording.track import Track as Track
