"""model_output: what counts as a word of an answer, and what as the prompt again."""

import unicodedata

import pytest

from finetuning.monitoring.validators.checks.answers import echoes, missing_words
from finetuning.monitoring.validators.checks.probe import Answer
from finetuning.monitoring.validators.checks.words import has_word
from finetuning.monitoring.validators.settings import Question


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("中国的首都是北京。", "北京"),
        ("日本の首都は東京です", "東京"),
        ("スーパーコンピュータを使う", "コンピュータ"),
        ("ﾄｳｷｮｳ", "トウキョウ"),
        ("서울은 한국의 수도입니다", "서울"),
        ("ประเทศไทยมีกรุงเทพเป็นเมืองหลวง", "กรุงเทพ"),
        ("ນະຄອນຫຼວງແມ່ນວຽງຈັນ", "ວຽງຈັນ"),
        ("រាជធានីភ្នំពេញ", "ភ្នំពេញ"),
        ("မြို့တော်ရန်ကုန်ဖြစ်သည်", "ရန်ကုန်"),
        ("भारत की राजधानी दिल्ली है", "दिल्ली"),
        ("Столица — Москва.", "москва"),
        ("Die Hauptstadt ist Zürich.", "Zürich"),
        ("Lima's port", "Lima"),
        ("It costs $5.", "$5"),
        ("about 42km away", "42"),
        ("use C++ now", "C++"),
        ("用Python写", "Python"),
        ("می\u200cخواهم", "میخواهم"),  # noqa: RUF001
        ("calm  hands\nwin!", "calm hands win"),
    ],
)
def test_a_word_is_found_in_any_script(text: str, word: str) -> None:
    for form in ("NFC", "NFD"):
        for other in ("NFC", "NFD"):
            said, wanted = unicodedata.normalize(form, text), unicodedata.normalize(other, word)
            assert has_word(said, wanted), (form, other)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Limassol", "Lima"),
        ("Olima", "Lima"),
        ("unhappy", "happy"),
        ("москвичка", "москви"),
        ("दिल्लीवाला", "दिल्ली"),
        ("It costs $50.", "$5"),
        ("in 1942", "42"),
        ("resume\u0302", "resume"),
        ("上海", "北京"),
        ("anything", "\u200b"),
    ],
)
def test_a_part_of_a_longer_word_or_number_is_none(text: str, word: str) -> None:
    assert not has_word(text, word)


def test_missing_words_are_told() -> None:
    question = Question(prompt="?", expected_keywords=["Lima", "Cusco"])
    assert missing_words("It is lima", question) == ["Cusco"]


def answer(text: str) -> Answer:
    return Answer(text=text, tokens=[1, 2, 3], finite=True, stopped=True)


ASKED = "What is the capital of Peru?"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (ASKED, ASKED),
        (ASKED, "What is the  capital\nof Peru?"),
        (ASKED, f"{ASKED} {ASKED}"),
        (ASKED, f"{ASKED} {ASKED} What is the"),
        ("中国的首都是哪里。", "中国的首都是哪里。中国的首都"),
    ],
)
def test_the_prompt_again_is_an_echo(prompt: str, said: str) -> None:
    assert echoes(prompt, answer(said))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("hello my name is anna how are you", "Hello, my name is Anna. How are you?"),
        ("she go to school every day", "She go to school every day"),
        (ASKED, f"{ASKED} Lima"),
        (ASKED, f"{ASKED} The capital of Peru is Lima."),
        (ASKED, "What is"),
        ("Good morning", "Good morning"),
        ("你好", "你好"),
    ],
)
def test_what_adds_or_mends_something_is_no_echo(prompt: str, said: str) -> None:
    assert not echoes(prompt, answer(said))
