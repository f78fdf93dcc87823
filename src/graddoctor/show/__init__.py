"""The faces of checkups, cures, predictions and the lab: terminal, page, JSON, Markdown, notebook, pictures.

All show the same `Report`, `CureReport`, `PredictionReport` or `LabReport`.

Charts and the page load Altair and Vega; they stand in `graddoctor.show.charts` and `graddoctor.show.html` and are
imported by whoever draws, so that a run that only prints does not wait for them. `graddoctor.show.compose`,
`graddoctor.show.compose_cure` and `graddoctor.show.compose_prediction` load torch, and showing a saved report does not
wait for that either.
"""

from graddoctor.show.cure import AnyReport as AnyReport
from graddoctor.show.cure import CureReport as CureReport
from graddoctor.show.explanation import Explanation as Explanation
from graddoctor.show.lab import LabReport as LabReport
from graddoctor.show.markdown import to_markdown as to_markdown
from graddoctor.show.notebook import notebook_html as notebook_html
from graddoctor.show.prediction import PredictionReport as PredictionReport
from graddoctor.show.progress import Progress as Progress
from graddoctor.show.report import ActivationState as ActivationState
from graddoctor.show.report import Coverage as Coverage
from graddoctor.show.report import Event as Event
from graddoctor.show.report import HeatMap as HeatMap
from graddoctor.show.report import LayerActivation as LayerActivation
from graddoctor.show.report import LossCurve as LossCurve
from graddoctor.show.report import Part as Part
from graddoctor.show.report import Report as Report
from graddoctor.show.report import Row as Row
from graddoctor.show.report import UpdateRatios as UpdateRatios
from graddoctor.show.report import Waterfall as Waterfall
from graddoctor.show.save import check_writable as check_writable
from graddoctor.show.save import save as save
from graddoctor.show.serial import from_dict as from_dict
from graddoctor.show.serial import from_json as from_json
from graddoctor.show.serial import load as load
from graddoctor.show.serial import to_dict as to_dict
from graddoctor.show.serial import to_json as to_json
from graddoctor.show.text import print_report as print_report
from graddoctor.show.text import to_text as to_text
