"""Whether texts suit the packaged model."""

from __future__ import annotations

import pytest

from layerdex.index.languages import count_common_words

GERMAN = "Ich warte seit zwei Wochen auf meine neue Karte und in der Filiale weiss das niemand."
DUTCH = "Ik wacht al twee weken op mijn nieuwe pas en in de winkel weet niemand waar hij is."
RUSSIAN = "Я жду новую карту уже две недели, и в отделении банка никто ничего не знает."
ENGLISH = "I have been waiting for my new card for two weeks, and nobody knows where it is."


@pytest.mark.parametrize("text", [GERMAN, DUTCH, RUSSIAN, "电池坏了，手机在哪里？"])
def test_other_languages_have_hardly_a_common_english_word(text: str) -> None:
    assert count_common_words([text])[1] < 0.2


def test_english_has_many() -> None:
    n_words, share = count_common_words([ENGLISH, "THE end"])
    assert n_words == 19
    assert share == pytest.approx(9 / 19)


def test_without_words_there_is_no_share() -> None:
    assert count_common_words(["", "1 2 _", "!"]) == (0, 0.0)
