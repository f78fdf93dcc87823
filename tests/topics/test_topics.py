"""Topics: every condition, cause and remedy has one, with all its parts, and is found however it is called."""

import re
from importlib import resources

import pytest

from graddoctor.errors import GraddoctorError
from graddoctor.terms import Cause, Condition
from graddoctor.topics import about, every, find, recognised
from graddoctor.topics.topic import slug, unmarked

CONDITION = ["What it is", "Why", "How it is measured here", "What undoes it", "What does not", "Papers"]
REMEDIES = [topic for topic in every() if topic.kind == "remedy"]


def test_every_term_has_a_topic_with_its_own_sentence():
    for term in (*Condition, *Cause):
        topic = about(term)
        assert (topic.term, topic.sentence, topic.title) == (term, term.sentence, term.title)


@pytest.mark.parametrize("condition", Condition)
def test_a_condition_says_what_why_how_and_what_does_not_help(condition):
    topic = about(condition)
    assert [label for label, _ in topic.parts] == CONDITION
    assert all(len(text) >= 10 for _, text in topic.parts)


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_says_how_it_is_told_apart_and_what_to_do(cause):
    assert [label for label, _ in about(cause).parts] == ["How it is told apart", "What to do", "Remedies"]


@pytest.mark.parametrize("topic", REMEDIES, ids=lambda topic: topic.name)
def test_a_remedy_says_what_it_does_when_at_what_cost_and_who_says_so(topic):
    labels = [label for label, _ in topic.parts if label != "Variants"]
    assert labels == ["What it does", "Proposed", "Costs", "Source", "Code"]
    assert topic.sentence
    assert all(text for _, text in topic.parts)
    assert isinstance(topic.term, Cause)


def test_names_are_told_apart_and_are_anchors():
    names = [topic.name for topic in every()]
    assert len(set(names)) == len(names) > 90
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


def test_no_line_of_a_paragraph_begins_a_list_by_accident():
    for page in ("conditions.md", "causes.md", "story.md"):
        text = resources.files("graddoctor.topics").joinpath(page).read_text(encoding="utf-8")
        for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
            assert not (before.strip() and re.match(r"[-+*#>]\s|\d+\.\s", line)) or before.startswith(("-", ">")), line


@pytest.mark.parametrize("topic", every(), ids=lambda topic: topic.name)
def test_a_topic_is_found_by_its_name(topic):
    assert find(topic.name) is topic
    assert find(topic.name.upper().replace("-", "_")) is topic


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("Dead units", "dead-units"),
        ("vanishing gradient", "vanishing"),
        ("LEARNING_RATE_TOO_HIGH", "learning-rate-too-high"),
        ("he", "he-initialization-fan-in"),
        ("LSUV", "lsuv-initialization"),
        ("lstm", "a-gated-cell-in-place-of-nnrnn"),
        ("PReLU", "another-activation-in-place-of-the-hidden-ones"),
        ("clipped at norm 2.5", "clipped-at-norm-x"),
    ],
)
def test_other_words_lead_there_too(name, topic):
    assert find(name).name == topic


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vanisching", "there is no topic 'vanisching': did you mean vanishing"),
        ("zebra", "there is no topic 'zebra': graddoctor explain lists them"),
        ("", "there is no topic ''"),
        ("skip", "'skip' can mean n-skip-connections, n-skip-connections-that-start-at-zero: name one of them"),
    ],
)
def test_what_is_not_there_is_told_with_a_way_on(name, message):
    with pytest.raises(GraddoctorError, match=f"^{re.escape(message)}"):
        find(name)


@pytest.mark.parametrize(
    ("name", "topic", "source"),
    [
        ("leaky ReLU in place of sigmoid, re-initialised", "another-activation", "Maas et al. 2013"),
        ("Adam at 0.0003", "another-optimizer", "Kingma and Ba 2015"),
        ("GRU open for 80 steps in place of RNN", "a-gated-cell", "Cho et al. 2014; Tallec and Ollivier 2018"),
        ("1 skip connection", "n-skip-connections", "He et al. 2016; Balduzzi et al. 2017"),
        ("BatchNorm after 1 layer", "norm-after", "Ioffe and Szegedy 2015, Ba et al. 2016"),
    ],
)
def test_a_remedy_is_recognised_by_the_name_that_a_report_gives_it(name, topic, source):
    found = recognised(name)
    assert found.topic.name.startswith(topic)
    assert found.source.startswith(source)


def test_what_is_no_remedy_is_not_recognised():
    assert recognised("a rain dance") is None
    assert recognised("") is None


def test_marks_and_anchors():
    assert unmarked("*n* `nn.RNN` and [a link](somewhere.md#there)") == "n nn.RNN and a link"
    assert unmarked(r"my\_sched\*2\* \[a\](b)") == "my_sched*2* [a](b)"
    assert slug("He initialization (fan-in)") == "he-initialization-fan-in"
